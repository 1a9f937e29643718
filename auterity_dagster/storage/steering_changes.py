"""Hear from PostgreSQL that an organization's steering changed, at once; a poll finds what was not heard."""

from collections.abc import AsyncGenerator
from uuid import UUID

import psycopg

from auterity_dagster.storage.database import psycopg_url

LISTEN = "LISTEN auterity_steering"
UNHEARD = (psycopg.OperationalError, psycopg.InterfaceError, OSError)
"""What it looks like when PostgreSQL cannot be listened to, or no longer."""


async def steering_changes(url: str) -> AsyncGenerator[UUID]:
    """Yield the organizations whose policies, prices or deployments change, as soon as a change is committed.

    What was committed before it listens is not heard. Raises one of `UNHEARD`.
    """
    plain = psycopg_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await psycopg.AsyncConnection.connect(plain, autocommit=True, connect_timeout=5)
    async with connection:
        await connection.execute(LISTEN)
        async for change in connection.notifies():
            yield UUID(change.payload)
