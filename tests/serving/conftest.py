"""The API as the tests call it: the real app over real PostgreSQL and Redis, without a socket in between."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import PostgresDsn, RedisDsn
from starlette.types import ASGIApp, Receive, Scope, Send

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.identity.permission import Role
from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.serving.api import app as composition
from auterity_dagster.serving.api.app import build_app
from auterity_dagster.serving.api.state import ApiState
from auterity_dagster.settings import ApiSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import users
from auterity_dagster.storage.repositories.organizations import create_organization
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock

PASSWORD = "a long walk by the river"


@dataclass(frozen=True)
class Api:
    """A running API with two organizations, each with an owner who signed in."""

    app: FastAPI
    state: ApiState
    clock: FakeClock
    database: BlockingDatabase
    organization_id: UUID
    owner_id: UUID
    foreign_organization_id: UUID
    foreign_owner_id: UUID
    anonymous: httpx.AsyncClient
    owner: httpx.AsyncClient
    foreigner: httpx.AsyncClient

    def client(self, token: str) -> httpx.AsyncClient:
        """Return a client that presents this access token or key."""
        return httpx.AsyncClient(
            transport=self.anonymous._transport,
            base_url="https://auterity.test",
            headers={"authorization": f"Bearer {token}"},
        )

    def member(self, *roles: Role, dealership_ids: frozenset[UUID] | None = None, email: str = "") -> httpx.AsyncClient:
        """Add a user with these roles to the first organization and return their client."""
        with self.database.begin(self.organization_id) as session:
            user_id = users.add_blocking(
                session,
                email=email or f"{'-'.join(roles)}@example.test",
                name="-".join(roles),
                password_hash="unused",
                roles=roles,
                dealership_ids=dealership_ids,
            )
        return self.client(self.state.access_tokens.issue(user_id, organization_id=self.organization_id, epoch=0))


def with_state(app: ASGIApp, state: Mapping[str, object]) -> ASGIApp:
    """Do what a server does with the lifespan's state: give each request a copy."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return served


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[tuple[ApiState, httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(app.router.lifespan_context(app))
        assert state is not None
        transport = httpx.ASGITransport(app=with_state(app, state), raise_app_exceptions=False)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="https://auterity.test")
        )
        yield state["api"], client


@pytest.fixture(scope="session", autouse=True)
def shipped_files_read_once() -> Iterator[None]:
    """Parse the shipped workflows, prompts and rows once a process: they are frozen, and each test has an API."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_catalog", "load_compliance"):
            patch.setattr(composition, name, lru_cache(getattr(composition, name)))
        yield


@pytest.fixture(scope="session")
def routes(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The API's routes, composed once a process; each test gives them a lifespan of its own."""
    folder = tmp_path_factory.mktemp("nothing")
    address = "postgresql://nobody@127.0.0.1:1/nothing"
    settings = ApiSettings(
        database_url=PostgresDsn(address), redis_url=RedisDsn("redis://127.0.0.1:1/0"), secrets_dir=folder
    )
    return build_app(settings, clock=FakeClock())


@pytest.fixture
def secrets_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    ensure_secrets(folder)
    return folder


@pytest.fixture
def api_settings(database_urls: DatabaseUrls, redis_url: str, secrets_dir: Path) -> ApiSettings:
    return ApiSettings(
        database_url=PostgresDsn(database_urls.application), redis_url=RedisDsn(redis_url), secrets_dir=secrets_dir
    )


@pytest.fixture
async def api(api_settings: ApiSettings, routes: FastAPI, blocking_database: BlockingDatabase) -> AsyncIterator[Api]:
    """The API and two organizations."""
    clock = FakeClock()
    pepper = read_pepper(api_settings.secrets_dir)
    ours, theirs = (
        create_organization(
            blocking_database,
            name=name,
            owner_email=f"owner@{name}.test",
            owner_password=PASSWORD,
            pepper=pepper,
            clock=clock,
        )
        for name in ("ours", "theirs")
    )
    routes.router.lifespan_context = composition.lifespan_of(api_settings, clock=clock)
    async with running(routes) as (state, anonymous):
        tokens = [
            state.access_tokens.issue(made.owner_id, organization_id=made.organization_id, epoch=0)
            for made in (ours, theirs)
        ]
        owner, foreigner = (
            httpx.AsyncClient(
                transport=anonymous._transport,
                base_url="https://auterity.test",
                headers={"authorization": f"Bearer {token}"},
            )
            for token in tokens
        )
        yield Api(
            app=routes,
            state=state,
            clock=clock,
            database=blocking_database,
            organization_id=ours.organization_id,
            owner_id=ours.owner_id,
            foreign_organization_id=theirs.organization_id,
            foreign_owner_id=theirs.owner_id,
            anonymous=anonymous,
            owner=owner,
            foreigner=foreigner,
        )
