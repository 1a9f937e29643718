"""PostgreSQL connections of the ledger: a transaction goes out in one piece, so no row lock ever waits for Python."""

import asyncio
from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

import psycopg

from auterity_dagster.background import end_tasks
from auterity_dagster.storage.database import psycopg_url
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_pipeline import PipelinedConnection, Row, Statement

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError, OSError)
"""What it looks like when PostgreSQL cannot be reached, breaks off or does not answer in time."""


class LedgerConnections:
    """At most `size` connections; a new one may take `connect_within_s`, a whole transaction `answer_within_s`."""

    def __init__(self, url: str, *, size: int, connect_within_s: float, answer_within_s: float) -> None:
        self._url = psycopg_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._free = asyncio.Semaphore(size)
        self._idle: list[PipelinedConnection] = []
        self._size = size
        self._connecting: set[asyncio.Task[BaseException | None]] = set()
        self._abandoned: set[asyncio.Task[None]] = set()
        self._connect_within_s = connect_within_s
        self._answer_within_s = answer_within_s

    async def transaction(self, organization_id: UUID, *wanted: Statement) -> list[list[Row]]:
        """Run the statements as one transaction of the organization, sent as one pipeline; return each one's rows.

        Raises one of `AWAY`: then nobody knows whether the transaction was committed.
        """
        begin: list[Statement] = [
            (statements.BEGIN, {}),
            (statements.SET_ORGANIZATION, {"organization_id": str(organization_id)}),
        ]
        return (await self._pipeline([*begin, *wanted, (statements.COMMIT, {})]))[len(begin) : -1]

    async def read(self, statement: LiteralString) -> list[Row]:
        """Run one statement that belongs to no organization."""
        return (await self._pipeline([(statement, {})]))[0]

    async def warm(self) -> None:
        """Open the two that even a lone caller needs, before anybody waits; that PostgreSQL is away is found later."""
        await asyncio.gather(*(self._connect() for _ in range(min(2, self._size))))

    async def close(self) -> None:
        """Close what is idle, and wait for what was begun or abandoned."""
        await asyncio.gather(*self._connecting)
        while self._idle:
            await self._idle.pop().close()
        await asyncio.gather(*self._abandoned)

    async def _pipeline(self, wanted: Sequence[Statement]) -> list[list[Row]]:
        async with self._free:
            connection = await self._connection()
            sending = asyncio.create_task(connection.run(wanted))
            try:
                await asyncio.wait({sending}, timeout=self._answer_within_s)
            finally:
                if not sending.done():
                    self._abandon(connection, sending)
            if not sending.done():
                raise TimeoutError("PostgreSQL did not answer in time")
            if sending.exception() is None:
                self._idle.append(connection)
            else:
                # Where one connection has broken, the others are likely to be dead too: new ones find out.
                self._idle.append(connection)
                while self._idle:
                    await self._idle.pop().close()
            return sending.result()

    async def _connection(self) -> PipelinedConnection:
        """An idle connection or a new one; one that takes too long goes on opening, for whoever comes next."""
        deadline = asyncio.get_running_loop().time() + self._connect_within_s
        earlier = frozenset(self._connecting)  # their failures may be of an outage that is over
        while not self._idle:
            if len(self._connecting) < self._size:
                task = asyncio.create_task(self._connect())
                self._connecting.add(task)
                task.add_done_callback(self._connecting.discard)
            left_s = max(deadline - asyncio.get_running_loop().time(), 0)
            done, _ = await asyncio.wait(self._connecting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for ended in done - earlier if (error := ended.result()) is not None]
            if errors and not self._idle:
                raise errors[0]
            if not done and not self._idle:
                raise TimeoutError("PostgreSQL took too long to connect")
        return self._idle.pop()

    async def _connect(self) -> BaseException | None:
        try:
            connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5)
        except AWAY as error:
            return error
        self._idle.append(PipelinedConnection(connection))
        return None

    def _abandon(self, connection: PipelinedConnection, sending: asyncio.Task[list[list[Row]]]) -> None:
        """End a transaction that nobody waits for any more, apart: psycopg takes seconds to give one up."""

        async def end() -> None:
            await end_tasks([sending])
            await connection.close()

        task = asyncio.create_task(end())
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
