"""A specialised model becomes a candidate by its verdict, is chosen by its evidence, and is gone when either goes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.relaycore.catalog import ServedDeployment
from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict
from auterity_dagster.storage.repositories.routing import (
    publish_deployment,
    recent_requests,
    record_quality,
    withdraw_deployment,
)
from auterity_dagster.storage.tables.specialisation import GateVerdictRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until

NAME, DIGEST = "neuroweaver/sales", "a" * 64
LEAD = {"x-auterity-task": "lead_reply"}


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """The model server's place is taken by the sandbox, under the model server's token."""
    secrets_dir = tmp_path / "secrets"
    ensure_secrets(secrets_dir)
    (secrets_dir / "model_server_token").write_text((secrets_dir / "sandbox_token").read_text())
    changes: dict[str, Any] = {"model_server_url": lambda sandbox_url: sandbox_url}
    async with running_stack(database_urls, redis_url, tmp_path, **changes) as stack:
        yield stack


def publish(database: BlockingDatabase, stack: Stack) -> None:
    with database.begin(stack.organization_id) as session:
        publish_deployment(
            session,
            ServedDeployment(
                organization_id=stack.organization_id,
                deployment_id=NAME,
                artefact_digest=DIGEST,
                model="sandbox-small",
                price_key="sandbox/small",
                alias="champion",
                weight_percent=100,
                gate_verdict_digest="v1",
                context_tokens=2048,
                output_tokens=512,
                tasks=("lead_reply",),
            ),
        )


def judge(database: BlockingDatabase, stack: Stack, outcome: str, *, number: int) -> None:
    now = datetime.now(UTC)
    with database.begin(stack.organization_id) as session:
        add_verdict(
            session,
            GateVerdictRow(
                organization_id=stack.organization_id,
                verdict_digest=f"v{number}",
                artefact_digest=DIGEST,
                scope="sales",
                outcome=outcome,
                profile="embedded",
                champion_digest="none",
                report_digest="r1",
                reasons=[],
                decided_at=now + timedelta(seconds=number),
                expires_at=now + timedelta(days=14),
            ),
        )


def evaluate(database: BlockingDatabase, stack: Stack, *, mean_score: float) -> None:
    with database.begin(stack.organization_id) as session:
        record_quality(
            session, QualityEvidence(stack.organization_id, "lead_reply", DIGEST, "evaluation", 50, mean_score)
        )


async def first_choice(stack: Stack) -> str:
    async with stack.http(**LEAD) as client:
        body = {"model": "auto", "messages": QUESTION}
        explained = (await client.post("/v1/route:explain", json=body)).json()
    return str(explained["route"][0]["deployment"])


async def test_verdict_and_evidence_together_bring_the_traffic_and_each_alone_does_not(
    stack: Stack, blocking_database: BlockingDatabase
) -> None:
    async def is_chosen() -> bool:
        return await first_choice(stack) == NAME

    async def is_not_chosen() -> bool:
        return await first_choice(stack) == "sandbox-large"

    publish(blocking_database, stack)
    evaluate(blocking_database, stack, mean_score=0.95)
    without_verdict = await first_choice(stack)
    judge(blocking_database, stack, "PASS", number=1)
    await until(is_chosen)
    answer = await stack.ask({"model": "auto"}, **LEAD)
    judge(blocking_database, stack, "FAIL", number=2)
    await until(is_not_chosen)

    assert without_verdict == "sandbox-large"
    assert answer.headers["x-auterity-deployment"] == NAME
    assert "x-auterity-degraded" not in answer.headers


async def test_poor_evidence_keeps_a_gated_model_from_being_chosen(
    stack: Stack, blocking_database: BlockingDatabase
) -> None:
    publish(blocking_database, stack)
    judge(blocking_database, stack, "PASS", number=1)
    evaluate(blocking_database, stack, mean_score=0.5)

    async def reason() -> str | None:
        async with stack.http(**LEAD) as client:
            body = {"model": "auto/cheapest_ok", "messages": QUESTION}
            explained = (await client.post("/v1/route:explain", json=body)).json()
        return next((one["removed_by"] for one in explained["candidates"] if one["deployment_id"] == NAME), None)

    async def is_looked_at() -> bool:
        return (await reason() or "").startswith("quality:")

    await until(is_looked_at)


async def test_a_withdrawn_model_is_not_found(stack: Stack, blocking_database: BlockingDatabase) -> None:
    publish(blocking_database, stack)
    with blocking_database.begin(stack.organization_id) as session:
        withdraw_deployment(session, deployment_id=NAME, alias="champion")

    answer = await stack.ask({"model": NAME}, **LEAD)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_every_request_is_written_down_with_its_decision(stack: Stack) -> None:
    await stack.ask({"model": "auto"}, **LEAD)
    await stack.ask({"model": "gpt-99"})

    async def are_written() -> bool:
        async with stack.database.begin(stack.organization_id) as session:
            rows = await recent_requests(session, before=None, task=None, dealership_ids=None, limit=10)
        return sorted(row.outcome for row in rows) == ["model_not_found", "ok"]

    await until(are_written)
