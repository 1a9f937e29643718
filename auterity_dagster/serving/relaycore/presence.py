"""This gateway process among the others: it says that it lives, and knows how many do."""

import asyncio
from uuid import uuid4

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.gateway_processes import beat, leave

BEAT_S = 5.0

_log = structlog.get_logger(__name__)


class Presence:
    """`live` processes share every rate limit while Redis is away; while PostgreSQL is away the last count stays."""

    def __init__(self, database: Database) -> None:
        self._database, self._id = database, uuid4()
        self.live = 1

    async def beat_for_ever(self) -> None:
        """Say that this process lives and count the others, again and again; at the end say that it is gone."""
        try:
            while True:
                await self._beat()
                await asyncio.sleep(BEAT_S)
        finally:
            await asyncio.shield(self._leave())

    async def _beat(self) -> None:
        try:
            async with self._database.begin_without_organization() as session:
                self.live = max(await beat(session, self._id), 1)
        except (DBAPIError, PoolTimeout) as error:
            _log.warning("gateway_count_kept", live=self.live, reason=type(error).__name__)

    async def _leave(self) -> None:
        try:
            async with self._database.begin_without_organization() as session:
                await leave(session, self._id)
        except (DBAPIError, PoolTimeout) as error:
            _log.warning("gateway_left_silently", reason=type(error).__name__)
