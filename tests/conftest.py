"""Real servers for the tests: one PostgreSQL and one Redis-compatible server a session, a fresh database a test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from psycopg.sql import SQL, Identifier

from auterity_dagster.embedded.postgres import PostgresServer, start_postgres
from auterity_dagster.embedded.valkey import ValkeyServer, start_valkey
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.migrate import migrate

# How long an example takes says nothing about what it shows, and machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

APPLICATION_PASSWORD = "only-for-tests"
TEMPLATE = "auterity_template"


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


@pytest.fixture
def database_urls(postgres: PostgresServer) -> Iterator[DatabaseUrls]:
    """A fresh copy of the migrated template, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(TEMPLATE)))
    yield DatabaseUrls(
        owner=postgres.url(name), application=postgres.url(name, user="auterity_app", password=APPLICATION_PASSWORD)
    )
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


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
