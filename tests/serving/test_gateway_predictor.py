"""The gateway takes up a learned predictor while it runs, believes it only where it may, and can replay its choices."""

import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import orjson
import pytest
from ruamel.yaml import YAML
from sqlalchemy import select

from auterity_dagster.relaycore.decision_record import restored, told, told_again
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict
from auterity_dagster.storage.repositories.outcome_sets import publish_predictor
from auterity_dagster.storage.tables.routing import RequestRow
from auterity_dagster.storage.tables.specialisation import GateVerdictRow
from auterity_dagster.storage.tables.steering import DecisionContextRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import ROOT, Stack, running_stack, until
from tests.fakes.handmade_predictor import handmade_predictor, put_predictor

MODELS = ("provider:sandbox/sandbox-large", "provider:sandbox/sandbox-small")
EASY, HARD = "What colour is it?", "What is the integral of it?"
CHAT = {"x-auterity-task": "chat"}


@dataclass(frozen=True)
class Predictors:
    """The organization's predictors, as Dagster publishes them; MLflow is nowhere near."""

    stack: Stack
    database: BlockingDatabase
    store: ObjectStore
    folder: Path

    def made(self, *, weak: int) -> str:
        predictor = handmade_predictor(MODELS, task="chat", weak=weak, hard_word="integral")
        return put_predictor(self.store, predictor, self.folder / f"weak-{weak}")

    def publish(self, digest: str, *, alias: Literal["champion", "challenger"] = "champion", outcome: str) -> None:
        organization_id, now = self.stack.organization_id, datetime.now(UTC)
        row = GateVerdictRow(
            organization_id=organization_id,
            verdict_digest=f"{digest}-{outcome}-{now}",
            artefact_digest=digest,
            scope="routing",
            outcome=outcome,
            profile="routing",
            champion_digest="posterior",
            report_digest="r",
            reasons=[],
            decided_at=now,
            expires_at=now + timedelta(days=1),
        )
        with self.database.begin(organization_id) as session:
            add_verdict(session, row)
            publish_predictor(
                session,
                organization_id,
                alias=alias,
                artefact_digest=digest,
                verdict_digest=row.verdict_digest,
                registered_version=None,
            )

    async def explained(self, prompt: str, **headers: str) -> Mapping[str, Any]:
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
        async with self.stack.http(**(CHAT | headers)) as client:
            return (await client.post("/v1/route:explain", json=body)).json()

    async def chosen(self, prompt: str, **headers: str) -> tuple[str, str | None]:
        """Which deployment would answer, and by which predictor's word."""
        said = await self.explained(prompt, **headers)
        return said["route"][0]["deployment"], said["quality"]["predictor"]

    async def until_chosen_by(self, digest: str | None) -> None:
        async def is_so() -> bool:
            return (await self.chosen(EASY))[1] == digest

        await until(is_so)


@pytest.fixture
async def predictors(
    database_urls: DatabaseUrls, redis_url: str, blocking_database: BlockingDatabase, tmp_path: Path
) -> AsyncIterator[Predictors]:
    """A gateway whose policy lets a predictor choose."""
    config = written(tmp_path / "config", predictor="choose")
    async with running_stack(database_urls, redis_url, tmp_path, config_dir=config, data_dir=tmp_path) as stack:
        yield Predictors(stack, blocking_database, ObjectStore(tmp_path / "objects"), tmp_path)


def written(folder: Path, *, predictor: str) -> Path:
    folder.mkdir(exist_ok=True)
    yaml = YAML(typ="safe", pure=True)
    policy = yaml.load((ROOT / "config" / "steering.yaml").read_text())
    policy["defaults"]["predictor"] = predictor
    with (folder / "steering.yaml").open("w") as file:
        yaml.dump(policy, file)
    shutil.copy(ROOT / "config" / "prices.yaml", folder)
    return folder


async def stored_decision(stack: Stack, request_id: str) -> tuple[RequestRow, dict[str, Any], str]:
    """Return a finished request, the catalogue that it was decided on, and the policy's text."""
    found: list[RequestRow] = []

    async def is_stored() -> bool:
        async with stack.database.begin(stack.organization_id) as session:
            found[:] = (await session.scalars(select(RequestRow).where(RequestRow.id == UUID(request_id)))).all()
        return bool(found)

    await until(is_stored)
    async with stack.database.begin(stack.organization_id) as session:
        contexts = {row.digest: row.content for row in await session.scalars(select(DecisionContextRow))}
    inputs = found[0].decided_on or {}
    return found[0], contexts[inputs["catalog"]], contexts[inputs["policy"]]["yaml"]


async def test_a_predictor_is_taken_up_believed_where_it_may_be_swapped_and_dropped_while_the_gateway_runs(
    predictors: Predictors,
) -> None:
    first, second = predictors.made(weak=1), predictors.made(weak=0)
    assert await predictors.chosen(HARD) == ("sandbox-large", None)

    predictors.publish(first, outcome="INCONCLUSIVE")
    predictors.publish(first, outcome="PASS")
    await predictors.until_chosen_by(first)
    assert await predictors.chosen(EASY) == ("sandbox-small", first)
    assert await predictors.chosen(HARD) == ("sandbox-large", first)
    assert await predictors.chosen(EASY, **{"x-auterity-task": "never_seen"}) == ("sandbox-large", None)

    predictors.publish(second, outcome="PASS")
    await predictors.until_chosen_by(second)
    assert await predictors.chosen(HARD) == ("sandbox-small", second)

    predictors.publish(second, outcome="FAIL")
    await predictors.until_chosen_by(None)


async def test_a_decision_says_whose_word_it_took_and_replays_to_the_same_result(predictors: Predictors) -> None:
    digest, watching = predictors.made(weak=1), predictors.made(weak=0)
    predictors.publish(digest, outcome="PASS")
    predictors.publish(watching, alias="challenger", outcome="INCONCLUSIVE")
    await predictors.until_chosen_by(digest)

    answer = await predictors.stack.ask({"model": "auto", "messages": [{"role": "user", "content": EASY}]}, **CHAT)

    row, catalog, text = await stored_decision(predictors.stack, answer.headers["x-request-id"])
    assert answer.headers["x-auterity-deployment"] == "sandbox-small"
    assert row.decision["quality"] == {"source": "predictor", "predictor": digest}
    chosen = [one for one in told_again(row.decision)["candidates"] if one["place"] == 0]
    assert {one["quality_source"] for one in chosen} == {"predictor"}
    assert row.predicted == {"predictor": watching, "choice": "sandbox-small"}
    policy = read_policy(text, source="stored")
    again = choose(policy, *restored(row.decided_on or {}, catalog))
    assert orjson.loads(orjson.dumps(told(again))) == told_again(row.decision)


async def test_changed_bytes_are_never_loaded(predictors: Predictors) -> None:
    good, changed = predictors.made(weak=1), predictors.made(weak=0)
    arrays = predictors.store.manifest(changed).files["arrays.safetensors"].sha256
    path = predictors.store.root / arrays[:2] / arrays
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    predictors.publish(changed, outcome="PASS")
    predictors.publish(good, alias="challenger", outcome="INCONCLUSIVE")

    async def is_watched() -> bool:
        answer = await predictors.stack.ask({"model": "auto"}, **CHAT)
        row, _, _ = await stored_decision(predictors.stack, answer.headers["x-request-id"])
        return row.predicted is not None

    await until(is_watched)
    assert await predictors.chosen(EASY) == ("sandbox-large", None)


async def test_a_policy_that_is_changed_turns_the_predictor_off(predictors: Predictors) -> None:
    digest = predictors.made(weak=1)
    predictors.publish(digest, outcome="PASS")
    await predictors.until_chosen_by(digest)

    written(predictors.folder / "config", predictor="watch")

    await predictors.until_chosen_by(None)
    assert (await predictors.chosen(EASY))[0] == "sandbox-large"
