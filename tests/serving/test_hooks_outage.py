"""While PostgreSQL is away a sender is told to come back: nothing is answered 202 that was not stored."""

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

from auterity_dagster.embedded.postgres import PostgresServer
from tests.conftest import DatabaseUrls
from tests.serving.conftest import Api
from tests.serving.test_hooks import sample, sender


def admit(postgres: PostgresServer, name: str, *, is_open: bool) -> None:
    """Open or close a database to everybody; closing also ends every session."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        allowed = SQL("true") if is_open else SQL("false")
        connection.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(Identifier(name), allowed))
        if not is_open:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


async def test_no_false_202_while_the_database_is_away(
    api: Api, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    hook, name = await sender(api), str(make_url(database_urls.application).database)

    admit(postgres, name, is_open=False)
    away = await hook.post(sample(1), at=api.clock.now(), message_id="msg_1")
    admit(postgres, name, is_open=True)
    back = await hook.post(sample(1), at=api.clock.now(), message_id="msg_1")

    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert (back.status_code, back.json()["state"]) == (202, "accepted")
