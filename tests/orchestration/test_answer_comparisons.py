"""Shadow answers, through a real gateway: judged once, and the sequential test lets a challenger rise or go by them."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import pytest
from sqlalchemy import select

from auterity_dagster.assets.neuroweaver.answer_comparisons import answer_comparisons
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.facts import sales_facts, vehicle_fact
from auterity_dagster.neuroweaver.rollout import Decision
from auterity_dagster.neuroweaver.switching import ServingPhase
from auterity_dagster.prompt import load_prompts
from auterity_dagster.relaycore.ports import Answered, ShadowPair
from auterity_dagster.relaycore.said import asked_in, said_in
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.sensors.neuroweaver_shadow import waiting_comparisons
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.rollout_steps import take_step
from auterity_dagster.storage.repositories.shadow_pairs import PostgresShadowPairs
from auterity_dagster.storage.repositories.shadow_texts import KEPT_FOR, forget_others
from auterity_dagster.storage.tables.ledger import HoldRow
from auterity_dagster.storage.tables.specialisation import PairwiseRow
from auterity_dagster.storage.tables.steering import ShadowPairRow, ShadowTextRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import ROOT, Stack, running_stack, until
from tests.fakes.judging_stub import StubGateway, stub_gateway
from tests.storage.serving_scopes import SCOPE, Scope, digest, ledger, new_scope, served

PEPPER = bytes(32)
LEAD = {"x-auterity-task": "lead_reply"}
NAME = f"neuroweaver/{SCOPE}"
CHALLENGER = f"{NAME}@challenger"
PROMPT = load_prompts(ROOT / "config" / "prompts")["lead_reply"]
PAIRS = 60


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """The sandbox takes the model server's place: its large model answers better than its small one."""
    secrets_dir = tmp_path / "secrets"
    ensure_secrets(secrets_dir)
    (secrets_dir / "model_server_token").write_text((secrets_dir / "sandbox_token").read_text())
    async with running_stack(
        database_urls, redis_url, tmp_path, model_server_url=lambda sandbox_url: sandbox_url
    ) as stack:
        yield stack


@dataclass(frozen=True)
class Looks:
    """What Dagster does about a scope, beside the running gateway."""

    database: BlockingDatabase
    scope: Scope
    installation: InstallationResource
    url: str

    def materialize(self) -> dg.ExecuteInProcessResult:
        resources = {"database": DatabaseResource(url=self.url), "installation": self.installation}
        return dg.materialize(
            [answer_comparisons], resources=resources, instance=dg.DagsterInstance.ephemeral(), raise_on_error=False
        )

    def is_asked_for(self) -> bool:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, resources={"database": DatabaseResource(url=self.url)})
            return bool(waiting_comparisons.evaluate_tick(context).run_requests)

    def decide(self, *, after: timedelta = timedelta()) -> Decision:
        with self.database.begin(self.scope.organization_id) as session:
            now = datetime.now(UTC) + after
            step = take_step(session, self.scope.organization_id, SCOPE, now=now, failed_health_checks=0)
        assert step is not None
        return step.decision

    def winners(self) -> list[str]:
        with self.database.begin(self.scope.organization_id) as session:
            return sorted(session.scalars(select(PairwiseRow.winner)))

    def texts(self) -> dict[UUID, bytes]:
        """What waits sealed, by the id of the copied call."""
        with self.database.begin(self.scope.organization_id) as session:
            rows = session.execute(select(ShadowTextRow.shadow_request_id, ShadowTextRow.sealed))
            return dict(rows.tuples().all())

    def pairs(self) -> dict[UUID, UUID]:
        """The requests that were copied, by the id of the copied call."""
        with self.database.begin(self.scope.organization_id) as session:
            rows = session.execute(select(ShadowPairRow.shadow_request_id, ShadowPairRow.request_id))
            return dict(rows.tuples().all())


@dataclass(frozen=True)
class Waiting:
    """Pairs that wait, what looks at them, and the judge."""

    look: Looks
    judge: StubGateway


def looks(scope: Scope, urls: DatabaseUrls, folder: Path, *, gateway_url: str) -> Looks:
    installation = InstallationResource(
        data_dir=str(folder),
        secrets_dir=str(folder / "secrets"),
        config_dir=str(ROOT / "config"),
        gateway_url=gateway_url,
        model_server_url="http://127.0.0.1:1",
        mlflow_url="http://127.0.0.1:1",
    )
    return Looks(scope.database, scope, installation, urls.application)


def lead(number: int) -> list[dict[str, str]]:
    vehicle = vehicle_fact(
        stock_number="H26100",
        year=2026,
        make="Honda",
        vehicle_model="CR-V",
        trim="EX",
        condition="new",
        availability="available",
        price_nusd=31_250_000_000_000,
    )
    values = {
        "dealership": "Harbor Honda",
        "facts": sales_facts([vehicle], appointment_times=["Saturday 9 am", "Saturday 2 pm"]),
        "customer": "Ada",
        "question": f"Is the blue one here, and may my {number} children come along?",
    }
    system, user = PROMPT.render(values)
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


async def ask_many(stack: Stack, numbers: Sequence[int]) -> None:
    gate = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with gate:
            body = {"model": NAME, "messages": lead(number), "max_tokens": 96}
            assert (await stack.ask(body, **LEAD)).status_code == 200

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))


async def shadowed(stack: Stack, look: Looks, numbers: Iterator[int]) -> None:
    """Ask until enough answers wait to be compared: the gateway sees a new challenger within two seconds."""

    async def are_waiting() -> bool:
        await ask_many(stack, [next(numbers) for _ in range(10)])
        return len(look.texts()) >= PAIRS

    await until(are_waiting, within_s=90)


async def test_a_better_challenger_rises_to_champion_by_its_shadow_answers_and_a_worse_one_goes(
    stack: Stack, blocking_database: BlockingDatabase, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    small = Scope(blocking_database, stack.organization_id, "sandbox-small")
    large = replace(small, model="sandbox-large")
    look = looks(small, database_urls, tmp_path, gateway_url=stack.gateway_url)
    small.release("a", may_route="demo organizations")
    small.switch(None, "a", key="1")
    large.release("b", may_route="demo organizations")
    large.switch("a", "b", phase=ServingPhase.SHADOW, weight_percent=0, key="2")
    numbers = itertools.count()
    await shadowed(stack, look, numbers)
    by_name = await stack.ask({"model": CHALLENGER, "messages": lead(0)}, **LEAD)
    about_somebody = "Call me at (555) 010-9999 about the blue one, please"
    body = {"messages": [{"role": "user", "content": about_somebody}], "model": NAME}
    named = UUID((await stack.ask(body, **LEAD)).headers["x-request-id"])

    async def is_copied() -> bool:
        return named in look.pairs().values()

    await until(is_copied)
    await stack.closed_holds(2 * PAIRS)
    texts, pairs = look.texts(), look.pairs()
    undecided, is_asked_for = look.decide(), await asyncio.to_thread(look.is_asked_for)
    runs = [await asyncio.to_thread(look.materialize) for _ in range(3)]

    # What names a person is kept as a digest only, and of the others no word can be read where they wait.
    assert named not in [pairs[one] for one in texts]
    assert len(texts) == len(pairs) - 1
    assert not any(word in one for one in texts.values() for word in (b"children", b"CR-V", b"555"))
    assert by_name.status_code == 503
    assert (undecided.move, is_asked_for) == ("stay", True)
    assert [run.success for run in runs] == [True] * 3
    # Looked at again, nothing is judged or stored twice.
    assert len(look.winners()) == len(texts)
    assert look.winners().count("challenger") > 10 > look.winners().count("champion")
    assert look.texts() == {}
    assert not await asyncio.to_thread(look.is_asked_for)
    async with stack.database.begin(stack.organization_id) as session:
        paid = (await session.scalars(select(HoldRow).where(HoldRow.purpose == "judging"))).all()
    assert paid
    assert all(one.state == "settled" for one in paid)

    rising = [look.decide(after=timedelta(hours=25 * days)) for days in range(4)]

    assert [(one.move, one.weight_percent) for one in rising] == [
        ("advance", 1),
        ("advance", 5),
        ("advance", 25),
        ("promote", 100),
    ]
    assert served(small) == {"champion": ("b", 100)}

    small.release("c", may_route="demo organizations")
    small.switch("b", "c", phase=ServingPhase.SHADOW, weight_percent=0, key="3")
    await shadowed(stack, look, numbers)
    await asyncio.to_thread(look.materialize)
    decided = look.decide()

    assert decided.move == "retire"
    assert "the champion stays" in decided.reason
    assert served(small) == {"champion": ("b", 100)}
    assert [row.state for row in ledger(small)][-2:] == ["shadow", "retired"]


def kept_pairs(scope: Scope, url: str, answers: list[tuple[str, str]]) -> None:
    """Keep pairs as the gateway does, of what the champion and the challenger said."""

    async def keep() -> None:
        database = Database(url)
        for number, (champion, challenger) in enumerate(answers):
            sides = [
                Answered(NAME, digest(letter), "ok", 1, 1, said=said_in(completion(text), "openai"))
                for letter, text in (("a", champion), ("b", challenger))
            ]
            pair = ShadowPair(
                organization_id=scope.organization_id,
                request_id=uuid4(),
                shadow_request_id=uuid4(),
                rule="r",
                task="lead_reply",
                served=sides[0],
                shadow=sides[1],
                asked=asked_in({"messages": lead(number)}),
            )
            await PostgresShadowPairs(database, pepper=PEPPER).add(pair)
        await database.close()

    asyncio.run(keep())


def completion(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


GOOD = "Hi Ada, the 2026 Honda CR-V EX (stock H26100) is available. Could you come in Saturday 9 am or Saturday 2 pm?"
POOR = "Hello Ada, please visit our showroom, which is a very pleasant place to be at. Which day suits you?"


@pytest.fixture
def waiting(blocking_database: BlockingDatabase, database_urls: DatabaseUrls, tmp_path: Path) -> Iterator[Waiting]:
    """A challenger in the shadow, three pairs that wait, and a judge that a test may spoil."""
    scope = new_scope(blocking_database)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "pepper").write_text(PEPPER.hex())
    (tmp_path / "secrets" / "pepper").chmod(0o600)
    scope.release("a")
    scope.switch(None, "a", key="1")
    scope.release("b")
    scope.switch("a", "b", phase=ServingPhase.SHADOW, weight_percent=0, key="2")
    kept_pairs(scope, database_urls.application, [(POOR, GOOD), (GOOD, GOOD), (GOOD, "It is yours for $1,999.")])
    with stub_gateway() as judge:
        yield Waiting(looks(scope, database_urls, tmp_path, gateway_url=judge.url), judge)


def test_programs_decide_first_equal_answers_tie_and_a_judge_says_the_rest(waiting: Waiting) -> None:
    run = waiting.look.materialize()

    assert run.success
    # The stub prefers what sorts first, in either order: the poor answer.
    assert waiting.look.winners() == ["champion", "champion", "tie"]
    with waiting.look.database.begin(waiting.look.scope.organization_id) as session:
        decided_by = sorted(session.scalars(select(PairwiseRow.decided_by)))
    assert decided_by == ["programs", "programs", "sandbox-large"]


def test_a_judge_that_falls_for_canaries_decides_nothing_and_the_pairs_wait(waiting: Waiting) -> None:
    waiting.judge.prefers_longer = True

    run = waiting.look.materialize()

    assert {one.check_name: one.passed for one in run.get_asset_check_evaluations()}["judge_canaries"] is False
    assert waiting.look.winners() == []
    assert len(waiting.look.texts()) == 3


def test_without_money_for_judges_the_pairs_wait_until_they_are_too_old(waiting: Waiting) -> None:
    waiting.judge.status = 402

    run = waiting.look.materialize()
    left = len(waiting.look.texts())
    with waiting.look.database.begin(waiting.look.scope.organization_id) as session:
        later = datetime.now(UTC) + KEPT_FOR + timedelta(hours=1)
        forget_others(session, shadow_artefact_digests=[digest("b")], now=later)

    assert {one.check_name: one.passed for one in run.get_asset_check_evaluations()}["within_budget"] is False
    assert (left, waiting.look.texts(), waiting.look.winners()) == (3, {}, [])
