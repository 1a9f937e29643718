"""P-13: every lead takes effect exactly once, whatever is killed: daemon, code server, run workers, API, PostgreSQL."""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from auterity_dagster.automatrix.leases import LEASE
from auterity_dagster.automatrix.ports import EffectRecord, EffectState
from auterity_dagster.embedded import background
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.tables.workflows import ExecutionRow
from tests.chaos.checkers import Verdict
from tests.chaos.killed_stack import Killer
from tests.chaos.lead_effects import (
    DONE,
    ONE_MESSAGE_A_LEAD,
    SentMessage,
    every_lead_took_effect_once,
    read_effects,
)
from tests.chaos.ledger_processes import SEED
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.dying_worker import Dying, WorkerDied
from tests.fakes.lead_sender import LeadSender
from tests.fakes.lead_site import LeadSite, customer_mobile, customer_name, lead_body, lead_site
from tests.fakes.workflow_world import (
    CEL,
    NOON,
    Dealership,
    World,
    install_workflow,
    new_dealership,
    one_step,
)

EVENTS = int(os.environ.get("EVENTS", "5000"))
KILLS = int(os.environ.get("KILLS", "30"))
EVENTS_A_SECOND = 8.0
CLIENTS = 8
GAP_S = (4.0, 14.0)
REPEATED = 0.03
"""The share of deliveries that the sender repeats although they were taken: it never saw the answer."""
FINISHED_WITHIN_S = 1800.0
LONG_S = LEASE.total_seconds() * 2 + 61


@dataclass
class PatientSender:
    """Posts every lead until it is taken, always under the same id, as a sender does that lost an answer."""

    site: LeadSite
    random: Random
    tries: int = 0
    _next: int = 0
    _begun: float = field(default_factory=time.monotonic)

    async def post_all(self, count: int) -> None:
        async with (
            httpx.AsyncClient(base_url=self.site.api, timeout=20, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            sender = LeadSender(client, self.site.source_id, self.site.secret, "application/json")
            for _client in range(CLIENTS):
                group.create_task(self._post_some(sender, count))

    async def _post_some(self, sender: LeadSender, count: int) -> None:
        while (number := self._next) < count:
            self._next += 1
            await asyncio.sleep(max(0.0, self._begun + number / EVENTS_A_SECOND - time.monotonic()))
            await self._post(sender, number)
            if self.random.random() < REPEATED:
                await self._post(sender, number)

    async def _post(self, sender: LeadSender, number: int) -> None:
        while True:
            self.tries += 1
            try:
                answer = await sender.post(lead_body(number), at=datetime.now(UTC), message_id=f"msg_{number:06}")
            except httpx.TransportError:
                await asyncio.sleep(self.random.uniform(0.2, 2.0))
                continue
            if answer.status_code == 202:
                return
            assert answer.status_code in (429, 500, 503), f"{answer.status_code}: {answer.text[:300]}"
            await asyncio.sleep(self.random.uniform(0.2, 2.0))


async def until_finished(database: BlockingDatabase, site: LeadSite, count: int) -> None:
    """Wait until as many executions are over; the database may be away meanwhile."""
    async with asyncio.timeout(FINISHED_WITHIN_S):
        while await asyncio.to_thread(finished, database, site) < count:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(2)


def finished(database: BlockingDatabase, site: LeadSite) -> int:
    query = select(func.count()).select_from(ExecutionRow).where(ExecutionRow.state == DONE)
    try:
        with database.begin(site.organization_id) as session:
            return session.scalar(query) or 0
    except OperationalError:
        return 0


def recorded(record: Path) -> list[SentMessage]:
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    return [SentMessage(one["key"], one["message_id"], one["address"], one["text"]) for one in lines]


def customers(count: int) -> dict[str, str]:
    return {customer_name(number): customer_mobile(number) for number in range(count)}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a whole `auterity up` keeps everything."""
    for name in [name for name in os.environ if name.startswith("AUTERITY_")]:
        monkeypatch.delenv(name)
    made = Path(tempfile.mkdtemp(prefix="auterity-chaos-"))
    made.chmod(0o711)
    yield made
    background.stop(made)
    shutil.rmtree(made)


@pytest.mark.chaos
@pytest.mark.timeout(5400)
@pytest.mark.promise("P-13")
async def test_whatever_is_killed_every_lead_takes_effect_once(folder: Path, noted: dict[str, int]) -> None:
    running = await asyncio.to_thread(background.start, ["--free-ports"], data_dir=folder)
    site = await asyncio.to_thread(lead_site, running, ONE_MESSAGE_A_LEAD)
    database = BlockingDatabase(site.database_url, pool_size=2)
    sender, killer, over = PatientSender(site, Random(SEED)), Killer(folder, Random(SEED + 1), GAP_S), asyncio.Event()
    begun = time.monotonic()

    async with asyncio.TaskGroup() as group:
        kills = group.create_task(killer.kill_until(over, at_least=KILLS))
        await sender.post_all(EVENTS)
        over.set()
        await kills
    posted_s = time.monotonic() - begun
    await until_finished(database, site, EVENTS)

    effects = await asyncio.to_thread(read_effects, database, site.organization_id, recorded(site.record))
    database.close()
    verdict = every_lead_took_effect_once(customers(EVENTS), effects)
    noted |= {"n": EVENTS, **verdict.numbers, "tries": sender.tries, "kills": killer.killed.total()}
    noted |= {f"killed_{name}": count for name, count in sorted(killer.killed.items())}
    noted |= {"posted_s": round(posted_s), "finished_s": round(time.monotonic() - begun)}
    assert verdict.reasons == ()


LEADS = 24
DEATHS: Sequence[tuple[str, str, bool, int]] = (
    ("journal", "claim", False, 1), ("journal", "begin_step", False, 1), ("messenger", "send", True, 3),
    ("messenger", "send", False, 5), ("journal", "write", True, 7), ("journal", "write", False, 9),
)  # fmt: skip
"""Each at another lead: one whose step killed three workers is given up, as it should be."""


@pytest.fixture
def world(blocking_database: BlockingDatabase) -> World:
    return World(blocking_database, FakeClock(NOON))


@pytest.fixture
def dealership(database_urls: DatabaseUrls, world: World) -> Dealership:
    return new_dealership(database_urls, world.database, world.clock)


class WithoutLedger(PostgresJournal):
    """P-13's control: every attempt believes that it is the first to send."""

    def begin_step(self, *arguments: Any, **named: Any) -> EffectRecord | None:
        record = super().begin_step(*arguments, **named)
        return record and replace(record, state=EffectState.INTENDED, is_new=True, provider_ref=None)


def judged(
    world: World, dealership: Dealership, *, journal: type[PostgresJournal] = PostgresJournal, key: str = "adf:{}"
) -> Verdict:
    """Leads come in, each twice, workers die, and others go on; what the checker says of it.

    `key` is the sender's name for a delivery.
    """
    install_workflow(dealership, one_step(*ONE_MESSAGE_A_LEAD["steps"], idempotency_key="event.data.dedupe_key"))
    for delivery in range(2 * LEADS):
        number = delivery % LEADS + 1
        named = {"customer_name": customer_name(number), "dedupe_key": key.format(number, delivery)}
        dealership.lead_of_another(number, **named)
    for part, method, is_before, count in DEATHS:
        inner = journal(world.database, CEL)
        parts: dict[str, Any] = {"journal": inner, part: inner if part == "journal" else world.messenger}
        engine = world.engine(**parts | {part: Dying(parts[part], method, is_before, count)})
        with pytest.raises(WorkerDied):
            world.turn("custom_workflow", engine=engine)
        world.clock.advance(LONG_S)
    work(world, journal)
    return verdict_on(world, dealership, LEADS)


def work(world: World, journal: type[PostgresJournal] = PostgresJournal) -> None:
    """Other workers take what is ready, and what becomes ready, until nothing is."""
    while world.turn("custom_workflow", engine=world.engine(journal=journal(world.database, CEL))):
        world.clock.advance(LONG_S)


def verdict_on(world: World, dealership: Dealership, count: int) -> Verdict:
    """What the checker says of the first `count` customers' leads."""
    sent = [SentMessage(one, f"message-{one}", message.address, message.text) for one, message in world.messenger.sent]
    wanted = {customer_name(number): f"+1312555{140 + number:04}" for number in range(1, count + 1)}
    return every_lead_took_effect_once(wanted, read_effects(world.database, dealership.organization_id, sent))


def test_six_workers_die_and_every_lead_takes_effect_once(world: World, dealership: Dealership) -> None:
    world.messenger.is_repeat_safe = True

    verdict = judged(world, dealership)

    assert verdict.reasons == ()
    assert verdict.numbers == {"leads": LEADS, "executions": LEADS, "messages": LEADS}


@pytest.mark.control
@pytest.mark.promise("P-13", control=True)
def test_without_the_ledger_of_effects_doubled_messages_are_found(world: World, dealership: Dealership) -> None:
    verdict = judged(world, dealership, journal=WithoutLedger)

    assert any("messages that were sent twice" in one for one in verdict.reasons)


@pytest.mark.control
@pytest.mark.promise("P-13", control=True)
def test_a_sender_that_names_a_repeat_anew_is_found_to_start_leads_twice(world: World, dealership: Dealership) -> None:
    world.messenger.is_repeat_safe = True

    verdict = judged(world, dealership, key="adf:{}:{}")

    assert any("leads with several executions" in one for one in verdict.reasons)


@pytest.mark.control
@pytest.mark.promise("P-13", control=True)
def test_a_message_that_is_missing_in_the_messengers_record_is_found(world: World, dealership: Dealership) -> None:
    world.messenger.is_repeat_safe = True
    install_workflow(dealership, one_step(*ONE_MESSAGE_A_LEAD["steps"], idempotency_key="event.data.dedupe_key"))
    dealership.lead_of_another(1, customer_name=customer_name(1))
    world.turn("custom_workflow")

    found = read_effects(world.database, dealership.organization_id, [])
    verdict = every_lead_took_effect_once({customer_name(1): "+13125550141"}, found)

    assert [one.partition(":")[0] for one in verdict.reasons] == [
        "1 messages that were lost", "1 effects that the messenger's record does not bear out",
    ]  # fmt: skip
