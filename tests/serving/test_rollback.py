"""A model that turns bad loses its traffic while callers keep asking: nobody gets an error, and streams end whole."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from auterity_dagster.storage.tables.specialisation import ServingStateRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, until
from tests.fakes.rollback_load import (
    HARMFUL,
    LEAD,
    NAME,
    SOUND,
    Load,
    answered_by,
    decide,
    report_harm,
    serving_two,
    wait_until_answered_by,
)
from tests.storage.serving_scopes import Scope, digest


@pytest.fixture
async def two(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[Stack, Scope]]:
    async with serving_two(database_urls, redis_url, tmp_path) as found:
        yield found


async def a_stream(stack: Stack, began: asyncio.Event) -> str:
    """Return the last line of a long answer, and say when its first has come."""
    lines: list[str] = []
    async with stack.http(**LEAD) as client:
        body = {"model": NAME, "messages": QUESTION, "stream": True, "max_tokens": 400}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                lines += [line] if line else []
                began.set()
    assert all(json.loads(line.removeprefix("data: ")).get("error") is None for line in lines[:-1])
    return lines[-1]


async def test_a_model_that_turns_bad_loses_its_traffic_and_nobody_gets_an_error(two: tuple[Stack, Scope]) -> None:
    stack, scope = two
    load, began = Load(stack), asyncio.Event()
    async with load.running(callers=4):
        await wait_until_answered_by(scope, HARMFUL)
        quiet = decide(scope)
        stream = asyncio.create_task(a_stream(stack, began))
        await began.wait()
        report_harm(scope)

        step = decide(scope)

        await wait_until_answered_by(scope, SOUND)
        await wait_until_answered_by(scope, SOUND)
        changed_at = datetime.now(UTC)
        await load.is_served_again(20)
        last_line = await stream

    assert quiet is not None
    assert quiet.decision.move == "stay"
    assert step is not None
    assert (step.decision.move, step.is_done) == ("roll_back", True)
    assert "12 of 12 outcomes are harm" in step.decision.reason
    assert set(load.statuses) == {200}
    assert set(load.deployments) == {NAME}
    assert last_line == "data: [DONE]"
    assert max(await answered_by(scope, HARMFUL)) < changed_at
    again = decide(scope)
    assert again is not None
    assert (again.artefact_digest, again.decision.move) == (digest(SOUND), "stay")


@pytest.mark.control
async def test_where_only_the_record_changes_the_traffic_stays(two: tuple[Stack, Scope]) -> None:
    stack, scope = two
    load = Load(stack)
    async with load.running(callers=2):
        await wait_until_answered_by(scope, HARMFUL)
        with scope.database.begin(scope.organization_id) as session:
            session.execute(update(ServingStateRow).values(current_digest=digest(SOUND)))
        await load.is_served_again(40)

        await wait_until_answered_by(scope, HARMFUL)

    assert await answered_by(scope, SOUND) == []


class Healthy:
    """Stands before the model server and answers its health probe, as long as it is told to."""

    def __init__(self) -> None:
        self.is_up = True

    def around(self, app: ASGIApp) -> ASGIApp:
        async def answered(scope: ASGIScope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == "/healthz" and not self.is_up:
                await Response(status_code=503)(scope, receive, send)
                return
            await app(scope, receive, send)

        return answered


async def test_a_model_server_that_is_not_healthy_loses_its_routes_and_nobody_gets_an_error(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    health = Healthy()
    async with serving_two(database_urls, redis_url, tmp_path, around_sandbox=health.around) as (stack, scope):
        load = Load(stack)

        async def go_elsewhere() -> bool:
            return load.deployments[-1] != NAME

        async def come_back() -> bool:
            return load.deployments[-1] == NAME

        async with load.running(callers=1):
            await wait_until_answered_by(scope, HARMFUL)
            health.is_up = False
            await until(go_elsewhere, within_s=60)
            health.is_up = True
            await until(come_back, within_s=60)

    assert set(load.statuses) == {200}
