"""Real servers for the tests: one PostgreSQL and one Redis-compatible server a session, a fresh database a test."""

import gc
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.sql import SQL, Identifier

from auterity_dagster.embedded.postgres import PostgresServer, start_postgres
from auterity_dagster.embedded.valkey import ValkeyServer, start_valkey
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.migrate import migrate
from auterity_dagster.storage.repositories import organizations

# How long an example takes says nothing about what it shows, and machines are shared.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

APPLICATION_PASSWORD = "only-for-tests"
TEMPLATE = "auterity_template"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests: at the end they would run alone, one beside the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def one_hash_a_password() -> Iterator[None]:
    """Hash an owner's password once a process: Argon2id takes a fifth of a second, and most tests have two owners."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(organizations, "hash_password", lru_cache(organizations.hash_password))
        yield


@dataclass(frozen=True)
class DatabaseUrls:
    """One fresh, migrated database: as its owner (row security does not bind it), and as the application."""

    owner: str
    application: str


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server with a migrated template database."""
    folder = Path(tempfile.mkdtemp(prefix="auterity-tests-"))
    folder.chmod(0o755)
    server = start_postgres(folder / "postgres", durable=False)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate(server.url(TEMPLATE), application_password=APPLICATION_PASSWORD)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    """A Redis-compatible server; tests use keys of their own."""
    folder = Path(tempfile.mkdtemp(prefix="auterity-tests-"))
    server = start_valkey(folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: ValkeyServer) -> str:
    """The address of the Redis-compatible server."""
    return redis_server.url


class FreshDatabases:
    """Copies of the migrated template, made ahead: copying its thousand files takes longer than many a test."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._maker = ThreadPoolExecutor(max_workers=1)
        self._ahead = self._maker.submit(self._copy)

    @contextmanager
    def one(self) -> Iterator[DatabaseUrls]:
        """A copy that nobody used, dropped afterwards; the next one is begun."""
        ready, self._ahead = self._ahead, self._maker.submit(self._copy)
        name = ready.result()
        yield DatabaseUrls(
            owner=self._server.url(name),
            application=self._server.url(name, user="auterity_app", password=APPLICATION_PASSWORD),
        )
        self._drop(name)

    def close(self) -> None:
        """Wait for the copy that is under way; nobody will take it."""
        self._maker.shutdown()

    def _drop(self, name: str) -> None:
        """Drop a copy. A connection whose making was cancelled is closed when its last frames are collected.

        Until then it holds up the drop for five seconds. All frames are looked through only where that happens.
        """
        gc.collect(1)
        try:
            self._execute("DROP DATABASE {} WITH (FORCE)", name, limit_ms=300)
        except psycopg.errors.QueryCanceled:
            gc.collect()
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _copy(self) -> str:
        name = f"test_{uuid4().hex}"
        self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, TEMPLATE)
        return name

    def _execute(self, statement: LiteralString, *names: str, limit_ms: int = 0) -> None:
        limit = f"-c statement_timeout={limit_ms}"
        with psycopg.connect(self._server.url(), autocommit=True, options=limit) as connection:
            connection.execute(SQL(statement).format(*map(Identifier, names)))


@pytest.fixture(scope="session")
def fresh_databases(postgres: PostgresServer) -> Iterator[FreshDatabases]:
    """The copies on this process's server."""
    databases = FreshDatabases(postgres)
    yield databases
    databases.close()


@pytest.fixture
def database_urls(fresh_databases: FreshDatabases) -> Iterator[DatabaseUrls]:
    """A fresh copy of the migrated template, dropped afterwards."""
    with fresh_databases.one() as urls:
        yield urls


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """Async transactions on the fresh database, as the application role."""
    database = Database(database_urls.application)
    yield database
    await database.close()


@pytest.fixture
def blocking_database(database_urls: DatabaseUrls) -> Iterator[BlockingDatabase]:
    """The same for synchronous code."""
    database = BlockingDatabase(database_urls.application)
    yield database
    database.close()
