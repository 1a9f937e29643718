"""P-27, outbound: events arrive at least once, in order for each subject, signed; through kills and faults."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
import standardwebhooks
from sqlalchemy import insert, select

from auterity_dagster.public_http import PublicHttp
from auterity_dagster.serving.webhook_delivery import WebhookDeliveries
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import outbox_relay, webhook_deliveries, webhook_endpoints
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.repositories.webhook_deliveries import Attempt, Outgoing
from auterity_dagster.storage.tables.identity import OrganizationRow
from auterity_dagster.storage.tables.webhooks import WebhookDeliveryRow, WebhookEndpointRow
from auterity_dagster.storage.tables.workflows import OutboxRow
from tests.chaos.checkers import Verdict
from tests.fakes.clock import FakeClock
from tests.fakes.recording_service import Asked, RecordingService, recording_service

PEPPER = bytes(range(32))
SUBJECTS = 7
HANG_S = 0.15


@dataclass
class FailingReceiver(RecordingService):
    """Fails 30 % of what it gets and leaves 10 % without an answer; it notes what it took, in order."""

    random: Random = field(default_factory=lambda: Random(27))
    fails: float = 0.3
    hangs: float = 0.1
    taken: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, Any] | None:
        self.asked.append(asked)
        luck = self.random.random()
        if luck < self.hangs:
            return None
        if luck < self.hangs + self.fails:
            return 503, {}
        self.taken.append(asked)
        return 200, {}


class WorkerDied(BaseException):
    """The process is gone."""


class DyingDeliveries(WebhookDeliveries):
    """Dies after some of its requests, before it wrote down what became of them."""

    def __init__(self, *arguments: Any, dies: Callable[[], bool], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._dies = dies

    async def attempt(self, outgoing: Outgoing) -> Attempt:
        attempt = await super().attempt(outgoing)
        if self._dies():
            raise WorkerDied
        return attempt


class DeleteBeforeSend(WebhookDeliveries):
    """P-27's control: an event is done with before it was sent."""

    async def deliver(self, organization_id: UUID, outgoing: Outgoing) -> None:
        async with self._database.begin(organization_id) as session:
            await webhook_deliveries.record(session, outgoing, Attempt(200, None), jitter=0.5, now=self._clock.now())
        await self.attempt(outgoing)


@dataclass
class Stage:
    """An organization with one endpoint, and the receiver behind it."""

    database: Database
    clock: FakeClock
    organization_id: UUID
    endpoint: WebhookEndpointRow
    receiver: FailingReceiver

    def worker(self, kind: type[WebhookDeliveries] = WebhookDeliveries, **more: Any) -> Any:
        http = PublicHttp(private_origins=frozenset({self.receiver.url}))
        return kind(self.database, http, pepper=PEPPER, clock=self.clock, jitter=lambda: 0.5, timeout_s=HANG_S, **more)

    async def happen(self, count: int) -> None:
        """Events of a few subjects, numbered by the relay."""
        async with self.database.begin(self.organization_id) as session:
            for number in range(count):
                payload = {"lead_id": f"s{number % SUBJECTS}", "number": number}
                row = announcement(
                    self.organization_id, topic="leads", kind="lead.received", payload=payload, now=self.clock.now()
                )
                await session.execute(row)
                self.clock.advance(0.001)
        async with self.database.begin(self.organization_id) as session:
            await outbox_relay.number(session)

    async def drain(self, worker: WebhookDeliveries, *, turns: int) -> None:
        """Let a worker work until nothing is left; the clock moves to the next attempt."""
        for _turn in range(turns):
            made = await worker.turn()
            if made == 0 and await self.open() == 0:
                return
            if made == 0:
                self.clock.advance(61)
                await self.switch_on()

    async def switch_on(self) -> None:
        """Eight failures in a row switched the endpoint off: a person has it delivered again."""
        async with self.database.begin(self.organization_id) as session:
            if (await webhook_endpoints.get(session, self.endpoint.id)).state == "off":
                await webhook_endpoints.redeliver(session, self.endpoint.id, now=self.clock.now())

    async def open(self) -> int:
        async with self.database.begin(self.organization_id) as session:
            rows = await session.scalars(select(WebhookDeliveryRow).where(WebhookDeliveryRow.state != "delivered"))
            return len(rows.all())

    async def expected(self) -> Mapping[str, list[str]]:
        """The ids of the events by subject, in the order of their positions."""
        found: dict[str, list[str]] = defaultdict(list)
        async with self.database.begin(self.organization_id) as session:
            rows = await session.scalars(
                select(OutboxRow).where(OutboxRow.topic == "leads").order_by(OutboxRow.position)
            )
            for row in rows:
                found[f"leads/{row.payload['lead_id']}"].append(str(row.id))
        return found

    def secret(self) -> str:
        return webhook_endpoints.endpoint_secret(
            PEPPER, organization_id=self.organization_id, endpoint_id=self.endpoint.id, version=1
        )


def delivered_in_order(expected: Mapping[str, Sequence[str]], taken: Sequence[tuple[str, str]]) -> Verdict:
    """P-27's checker over (subject, id) in the order of their arrival: none is lost, and none overtakes another.

    A repeat of something that had arrived is no inversion: at least once is what is promised.
    """
    reasons: list[str] = []
    arrived = {event_id for _subject, event_id in taken}
    lost = sum(event_id not in arrived for ids in expected.values() for event_id in ids)
    if lost:
        reasons.append(f"{lost} events never arrived")
    inversions = 0
    for subject, ids in expected.items():
        first = list(dict.fromkeys(event_id for one, event_id in taken if one == subject))
        inversions += sum(here != there for here, there in zip(first, ids, strict=False))
    if inversions:
        reasons.append(f"{inversions} events arrived out of order")
    return Verdict("P-27", tuple(reasons), {"events": sum(map(len, expected.values())), "arrivals": len(taken)})


def read(receiver: FailingReceiver, secret: str) -> list[tuple[str, str]]:
    """What the receiver took; every signature is made again with the standard's own library."""
    signer = standardwebhooks.Webhook(secret)
    found: list[tuple[str, str]] = []
    for asked in receiver.taken:
        at = datetime.fromtimestamp(int(asked.headers["webhook-timestamp"]), UTC)
        expected = signer.sign(asked.headers["webhook-id"], at, asked.body.decode())
        assert expected == asked.headers["webhook-signature"]
        event = json.loads(asked.body)
        found.append((event["subject"], event["id"]))
    return found


@pytest.fixture
def receiver() -> Iterator[FailingReceiver]:
    receiver = FailingReceiver()
    with recording_service(receiver):
        yield receiver


@pytest.fixture
async def stage(database: Database, receiver: FailingReceiver) -> Stage:
    clock, organization_id = FakeClock(), uuid4()
    async with database.begin(organization_id) as session:
        await session.execute(insert(OrganizationRow).values(id=organization_id, name="ours"))
        endpoint = await webhook_endpoints.create(
            session, url=f"{receiver.url}/hook", topics=["leads"], now=clock.now()
        )
    return Stage(database, clock, organization_id, endpoint, receiver)


async def delivered(stage: Stage, events: int, kills: int) -> Verdict:
    """Events happen in two halves, workers die in between, and the last one finishes."""
    random = Random(events)
    await stage.happen(events // 2)
    for _kill in range(kills):
        left = random.randrange(1, 12)

        def dies() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        with suppress(BaseExceptionGroup, WorkerDied):
            await stage.drain(stage.worker(DyingDeliveries, dies=dies), turns=50)
        stage.clock.advance(61)
    await stage.happen(events - events // 2)
    await stage.drain(stage.worker(), turns=events * 20)
    return delivered_in_order(await stage.expected(), read(stage.receiver, stage.secret()))


async def test_a_hundred_events_arrive_in_order_through_faults_and_two_kills(stage: Stage) -> None:
    verdict = await delivered(stage, 100, 2)

    assert verdict.reasons == ()
    assert await stage.open() == 0


@pytest.mark.chaos
@pytest.mark.promise("P-27")
async def test_two_thousand_events_arrive_in_order_through_faults_and_twenty_kills(
    stage: Stage, noted: dict[str, int]
) -> None:
    verdict = await delivered(stage, 2_000, 20)
    noted |= {"n": 2_000, **verdict.numbers}

    assert verdict.reasons == ()


@pytest.mark.control
@pytest.mark.promise("P-27", control=True)
async def test_events_that_are_done_with_before_they_were_sent_are_missed(stage: Stage) -> None:
    await stage.happen(40)

    await stage.drain(stage.worker(DeleteBeforeSend), turns=200)

    verdict = delivered_in_order(await stage.expected(), read(stage.receiver, stage.secret()))
    assert any("never arrived" in reason for reason in verdict.reasons)


def test_an_event_that_overtakes_another_is_found() -> None:
    found = delivered_in_order({"a": ["1", "2"], "b": ["3"]}, [("a", "2"), ("b", "3"), ("a", "1")])

    assert found.reasons == ("2 events arrived out of order",)


def test_a_repeat_is_no_inversion() -> None:
    assert delivered_in_order({"a": ["1", "2"]}, [("a", "1"), ("a", "2"), ("a", "1")]).reasons == ()
