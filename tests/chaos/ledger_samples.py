"""Looking at the ledger from outside, as the database's owner, while others work on it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg

from tests.chaos.checkers import LedgerSample

LEDGER_SAMPLE = """
SELECT (SELECT coalesce(max(settled_nusd + held_nusd - cap_nusd) FILTER (WHERE is_hard), 0) FROM budget_window),
    (SELECT coalesce(sum(overage_nusd), 0)::bigint FROM budget_window),
    (SELECT coalesce(sum(amount_nusd), 0)::bigint FROM entry),
    (SELECT coalesce(sum(held_nusd), 0)::bigint FROM budget_window)
"""

ACCOUNTS = """
SELECT coalesce(sum(amount_nusd) FILTER (WHERE account = 'spend'), 0)::bigint,
    coalesce(sum(amount_nusd) FILTER (WHERE account = 'suspense'), 0)::bigint FROM entry
"""

BOOKED = """
SELECT coalesce(sum(coalesce(cost_nusd, amount_nusd)), 0)::bigint FROM hold
"""
"""What the ledger reckons with: what is booked for closed holds, and all of the open ones."""


async def sample(connection: psycopg.AsyncConnection) -> LedgerSample:
    """One statement, so one snapshot."""
    row = await (await connection.execute(LEDGER_SAMPLE)).fetchone()
    assert row is not None
    return LedgerSample(*row)


@asynccontextmanager
async def sampling(owner_url: str, *, every_s: float) -> AsyncGenerator[list[LedgerSample]]:
    """Collect samples while the body runs, and one after it; while PostgreSQL is away there is nothing to see."""
    samples: list[LedgerSample] = []

    async def collect() -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
                    while True:
                        samples.append(await sample(connection))
                        await asyncio.sleep(every_s)
            except psycopg.OperationalError:
                await asyncio.sleep(every_s)

    task = asyncio.create_task(collect())
    try:
        yield samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as last:
        samples.append(await sample(last))


async def spend_and_suspense(owner_url: str) -> tuple[int, int]:
    """What is settled, and what is booked as unknown."""
    async with await psycopg.AsyncConnection.connect(owner_url) as connection:
        row = await (await connection.execute(ACCOUNTS)).fetchone()
    assert row is not None
    return row[0], row[1]
