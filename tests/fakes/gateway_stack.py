"""A whole gateway for tests: its process and the sandbox provider on real ports, over the test's PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import openai
from fastapi import FastAPI
from pydantic import PostgresDsn, RedisDsn
from sqlalchemy import select
from starlette.types import ASGIApp

from auterity_dagster.clock import SystemClock
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.serving.sandbox.app import build_app as build_sandbox
from auterity_dagster.settings import GatewaySettings, SandboxSettings
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.api_keys import system_key
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.tables.ledger import HoldRow
from tests.conftest import DatabaseUrls
from tests.fakes.served import served

ROOT = Path(__file__).parents[2]
QUESTION = [{"role": "user", "content": "Is the blue one still there?"}]


@dataclass(frozen=True)
class Stack:
    """The addresses, an organization, its key, and what the provider and the ledger say."""

    gateway_url: str
    sandbox_url: str
    sandbox_token: str
    organization_id: UUID
    key: str
    database: Database

    def sdk(self, **headers: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.gateway_url}/v1", api_key=self.key, max_retries=0, default_headers=headers
        )

    def http(self, **headers: str) -> httpx.AsyncClient:
        return plain_http(self.gateway_url, {"authorization": f"Bearer {self.key}", **headers})

    async def ask(self, body: Mapping[str, Any] | None = None, **headers: str) -> httpx.Response:
        async with self.http(**headers) as client:
            asked = {"model": "sandbox-small", "messages": QUESTION, **(body or {})}
            return await client.post("/v1/chat/completions", json=asked)

    async def set_faults(self, *settings: Mapping[str, Any]) -> None:
        async with self._sandbox() as client:
            response = await client.post("/control/faults", json={"settings": list(settings)})
            response.raise_for_status()

    async def bill(self) -> Sequence[Mapping[str, Any]]:
        async with self._sandbox() as client:
            return (await client.get("/bill", params={"lines": True})).json()["lines"]

    async def closed_holds(self, count: int) -> Sequence[HoldRow]:
        """Return the holds once so many exist and none is open."""
        found: Sequence[HoldRow] = []

        async def are_closed() -> bool:
            nonlocal found
            async with self.database.begin(self.organization_id) as session:
                found = (await session.scalars(select(HoldRow))).all()
            return len(found) >= count and all(one.state != "held" for one in found)

        await until(are_closed)
        return found

    def _sandbox(self) -> httpx.AsyncClient:
        return plain_http(self.sandbox_url, {"authorization": f"Bearer {self.sandbox_token}"})


def plain_http(url: str, headers: Mapping[str, str]) -> httpx.AsyncClient:
    """A client without certificates: reading those that nobody shows here costs as much as a call."""
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, verify=False)


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    """Wait for something that happens by itself."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)


def gateway_settings(
    urls: DatabaseUrls, redis_url: str, secrets_dir: Path, sandbox_url: str, **changes: Any
) -> GatewaySettings:
    return GatewaySettings(
        **{
            "database_url": PostgresDsn(urls.application),
            "redis_url": RedisDsn(redis_url),
            "secrets_dir": secrets_dir,
            "config_dir": ROOT / "config",
            "sandbox_url": sandbox_url,
            "model_server_url": "http://127.0.0.1:9",
            "OPENAI_API_KEY": None,
            "ANTHROPIC_API_KEY": None,
            **changes,
        }
    )


@asynccontextmanager
async def running_stack(
    urls: DatabaseUrls,
    redis_url: str,
    folder: Path,
    *,
    token_latency_ms: float = 0,
    around_sandbox: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    build: Callable[[GatewaySettings], FastAPI] = build_app,
    http: Any = "auto",
    **changes: Any,
) -> AsyncGenerator[Stack]:
    """Start a sandbox and a gateway; `changes` are gateway settings, a value may be a function of the sandbox's URL.

    `http` is what the gateway's server makes its connections of.
    """
    secrets_dir = folder / "secrets"
    ensure_secrets(secrets_dir)
    blocking = BlockingDatabase(urls.application)
    organization_id, key = new_organization(blocking, secrets_dir)
    blocking.close()
    sandbox = SandboxSettings(
        secrets_dir=secrets_dir, data_dir=folder, sandbox_token_latency_ms=token_latency_ms, sandbox_seed=0
    )
    database = Database(urls.application)
    async with served(around_sandbox(build_sandbox(sandbox))) as sandbox_url:
        given = {name: value(sandbox_url) if callable(value) else value for name, value in changes.items()}
        settings = gateway_settings(urls, redis_url, secrets_dir, **{"sandbox_url": sandbox_url, **given})
        async with served(build(settings), http=http) as gateway_url:
            token = (secrets_dir / "sandbox_token").read_text()
            yield Stack(gateway_url, sandbox_url, token, organization_id, key, database)
    await database.close()


def new_organization(database: BlockingDatabase, secrets_dir: Path, *, name: str = "ours") -> tuple[UUID, str]:
    """Make an organization and return its id and its key for workflows."""
    pepper = read_pepper(secrets_dir)
    made = create_organization(
        database,
        name=name,
        owner_email=f"owner@{name}.test",
        owner_password="a long walk by the river",
        pepper=pepper,
        clock=SystemClock(),
    )
    with database.begin(made.organization_id) as session:
        return made.organization_id, system_key(session, purpose="workflow").secret(pepper)
