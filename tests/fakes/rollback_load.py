"""A gateway under load whose champion turns bad: what its callers got, and which artefact answered when."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from starlette.types import ASGIApp

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.rollout_steps import Step, take_step
from auterity_dagster.storage.repositories.routing import record_quality
from auterity_dagster.storage.tables.routing import RequestRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until
from tests.storage.serving_scopes import SCOPE, Scope, digest

LEAD = {"x-auterity-task": "lead_reply"}
NAME = f"neuroweaver/{SCOPE}"
SOUND, HARMFUL = "a", "b"
STREAMED_TOKENS_MS = 20


@dataclass
class Load:
    """Callers that ask without a pause, and what they got."""

    stack: Stack
    statuses: list[int] = field(default_factory=list)
    deployments: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, callers: int) -> AsyncGenerator[None]:
        stop = asyncio.Event()

        async def ask_on() -> None:
            async with self.stack.http(**LEAD) as client:
                while not stop.is_set():
                    body = {"model": "auto", "messages": QUESTION, "max_tokens": 16}
                    answer = await client.post("/v1/chat/completions", json=body)
                    self.statuses.append(answer.status_code)
                    self.deployments.append(answer.headers.get("x-auterity-deployment", ""))
                    await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(ask_on())
            yield
            stop.set()

    async def is_served_again(self, count: int) -> None:
        """Wait until so many more answers have arrived."""
        goal = len(self.statuses) + count

        async def have_arrived() -> bool:
            return len(self.statuses) >= goal

        await until(have_arrived, within_s=60)


@asynccontextmanager
async def serving_two(
    urls: DatabaseUrls, redis_url: str, folder: Path, *, around_sandbox: Callable[[ASGIApp], ASGIApp] = lambda app: app
) -> AsyncGenerator[tuple[Stack, Scope]]:
    """A stack whose scope serves one artefact, and after it another, which is the champion now."""
    secrets_dir = folder / "secrets"
    ensure_secrets(secrets_dir)
    (secrets_dir / "model_server_token").write_text((secrets_dir / "sandbox_token").read_text())
    # The model server's place is taken by the sandbox.
    changes: dict[str, Any] = {
        "model_server_url": lambda sandbox_url: sandbox_url,
        "token_latency_ms": STREAMED_TOKENS_MS,
        "around_sandbox": around_sandbox,
    }
    database = BlockingDatabase(urls.application)
    try:
        async with running_stack(urls, redis_url, folder, **changes) as stack:
            scope = Scope(database, stack.organization_id, "sandbox-small")
            for before, after in ((None, SOUND), (SOUND, HARMFUL)):
                scope.release(after)
                scope.switch(before, after, key=f"to {after}")
                with database.begin(stack.organization_id) as session:
                    evidence = QualityEvidence(
                        stack.organization_id, "lead_reply", digest(after), "evaluation", 400, 0.97
                    )
                    record_quality(session, evidence)
            yield stack, scope
    finally:
        database.close()


async def answered_by(scope: Scope, letter: str) -> list[datetime]:
    """Return when the requests that an artefact answered were received."""
    with scope.database.begin(scope.organization_id) as session:
        rows = session.scalars(select(RequestRow.received_at).where(RequestRow.artefact_digest == digest(letter)))
        return sorted(rows)


async def wait_until_answered_by(scope: Scope, letter: str) -> None:
    before = len(await answered_by(scope, letter))

    async def are_more() -> bool:
        return len(await answered_by(scope, letter)) > before

    await until(are_more, within_s=60)


def report_harm(scope: Scope) -> None:
    """What customers and sellers say of its answers: they did harm, again and again."""
    scope.report_harm(HARMFUL, deployment_id=NAME)


def decide(scope: Scope) -> Step | None:
    """Look at the scope once, as the sensor does."""
    with scope.database.begin(scope.organization_id) as session:
        return take_step(session, scope.organization_id, SCOPE, now=datetime.now(UTC), failed_health_checks=0)
