"""Feedback moves what routing believes: once per request and kind, in its own organization, for thirty days."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, update

from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.api_keys import system_key
from auterity_dagster.storage.repositories.routing import request_by_id
from auterity_dagster.storage.tables.routing import RequestRow, RouteQualityRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, new_organization, running_stack, until

LEAD = {"x-auterity-task": "lead_reply"}
DIGEST = "provider:sandbox/sandbox-small"


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path) as stack:
        yield stack


async def answered(stack: Stack) -> UUID:
    """Ask, and return the request's id once it is written down."""
    answer = await stack.ask(None, **LEAD)
    request_id = UUID(answer.headers["x-request-id"])

    async def is_written() -> bool:
        async with stack.database.begin(stack.organization_id) as session:
            return await request_by_id(session, request_id) is not None

    await until(is_written)
    return request_id


async def give(stack: Stack, request_id: UUID, *, score: float = 1.0, kind: str = "thumb") -> httpx.Response:
    async with stack.http() as client:
        return await client.post("/v1/feedback", json={"request_id": str(request_id), "kind": kind, "score": score})


async def sums(stack: Stack) -> list[tuple[str, str, str, float, float]]:
    async with stack.database.begin(stack.organization_id) as session:
        rows = (await session.scalars(select(RouteQualityRow).order_by(RouteQualityRow.source))).all()
    return [(row.task, row.artefact_digest, row.source, row.items, row.mean_score) for row in rows]


async def test_a_label_counts_once_per_request_and_kind(stack: Stack) -> None:
    request_id = await answered(stack)

    first, again = await give(stack, request_id), await give(stack, request_id)
    other = await give(stack, request_id, score=0.0)
    outcome = await give(stack, request_id, kind="workflow_outcome", score=0.5)

    assert [one.status_code for one in (first, again, other, outcome)] == [200, 200, 409, 200]
    assert first.json() == again.json()
    assert (first.json()["deployment"], first.json()["task"]) == ("sandbox-small", "lead_reply")
    assert await sums(stack) == [
        ("lead_reply", DIGEST, "thumb", 1.0, 1.0),
        ("lead_reply", DIGEST, "workflow_outcome", 1.0, 0.5),
    ]


async def test_older_labels_have_aged_when_a_new_one_is_added(stack: Stack) -> None:
    first, second = await answered(stack), await answered(stack)
    await give(stack, first, score=1.0)
    async with stack.database.begin(stack.organization_id) as session:
        await session.execute(update(RouteQualityRow).values(recorded_at=datetime.now(UTC) - timedelta(days=14)))

    await give(stack, second, score=0.0)

    [(_, _, _, items, mean)] = await sums(stack)
    assert (items, mean) == (pytest.approx(1.5, abs=0.001), pytest.approx(1 / 3, abs=0.001))


async def test_labels_bring_a_model_over_the_floor(stack: Stack) -> None:
    async def lower_bound() -> float:
        async with stack.http(**LEAD) as client:
            body = {"model": "sandbox-small", "messages": [{"role": "user", "content": "?"}]}
            explained = (await client.post("/v1/route:explain", json=body)).json()
        return float(explained["candidates"][0]["quality_lower_bound"])

    async def has_risen() -> bool:
        return await lower_bound() > before

    request_id = await answered(stack)
    before = await lower_bound()
    await give(stack, request_id, kind="workflow_outcome")

    await until(has_risen)


async def test_a_foreign_or_unknown_request_cannot_be_labelled(
    stack: Stack, blocking_database: BlockingDatabase, tmp_path: Path
) -> None:
    request_id = await answered(stack)
    _, foreign_key = new_organization(blocking_database, tmp_path / "secrets", name="theirs")

    async with httpx.AsyncClient(base_url=stack.gateway_url) as client:
        foreign = await client.post(
            "/v1/feedback",
            headers={"authorization": f"Bearer {foreign_key}"},
            json={"request_id": str(request_id), "score": 1},
        )
    unknown = await give(stack, uuid4())

    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.json()["error"]["code"] == unknown.json()["error"]["code"] == "request_not_found"
    assert await sums(stack) == []


async def test_a_request_of_last_month_cannot_be_labelled(stack: Stack) -> None:
    request_id = await answered(stack)
    async with stack.database.begin(stack.organization_id) as session:
        old = await session.get_one(RequestRow, (stack.organization_id, datetime.now(UTC).date(), request_id))
        values = {column.key: getattr(old, column.key) for column in RequestRow.__table__.columns}
        aged = {**values, "id": uuid4(), "received_at": datetime.now(UTC) - timedelta(days=31)}
        session.add(RequestRow(**aged))

    refused = await give(stack, aged["id"])

    assert refused.status_code == 404


async def test_only_workflows_report_outcomes(
    stack: Stack, blocking_database: BlockingDatabase, tmp_path: Path
) -> None:
    request_id = await answered(stack)
    with blocking_database.begin(stack.organization_id) as session:
        judging = system_key(session, purpose="judging").secret(read_pepper(tmp_path / "secrets"))

    async with httpx.AsyncClient(base_url=stack.gateway_url) as client:
        refused = await client.post(
            "/v1/feedback",
            headers={"authorization": f"Bearer {judging}"},
            json={"request_id": str(request_id), "kind": "workflow_outcome", "score": 1},
        )

    assert refused.status_code == 403


@pytest.mark.parametrize("body", [{"score": 1.5}, {"score": 1, "comment": "lovely"}, {"score": 1, "kind": "judge"}])
async def test_what_is_no_label_is_refused(stack: Stack, body: dict[str, object]) -> None:
    async with stack.http() as client:
        refused = await client.post("/v1/feedback", json={"request_id": str(uuid4()), **body})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
