"""Counts failed sign-ins by address, in PostgreSQL, so that every API process sees the same count.

Known and unknown addresses are counted alike and stored as keyed digests: before sign-in there is no organization.
"""

from datetime import timedelta

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import RateLimited
from auterity_dagster.identity.derivation import keyed_digest
from auterity_dagster.storage.tables.identity import SignInFailureRow

FREE_FAILURES = 5
WINDOW = timedelta(minutes=15)
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(minutes=15)
KEPT = timedelta(days=1)


def address_digest(pepper: bytes, email: str) -> bytes:
    """Return what an address is counted under."""
    return keyed_digest(pepper, label="sign-in address", message=email.lower().encode())


async def take_attempt(session: AsyncSession, address: bytes) -> None:
    """Count an attempt before the password is looked at. Raises `RateLimited` while the address has to wait.

    Counting first: a hundred guesses at once are a hundred failures, not one.
    """
    row = SignInFailureRow
    # Not now(): a transaction that waited for another's count is older than what that one wrote.
    now = func.clock_timestamp()
    is_over = row.last_failed_at < now - WINDOW
    failures = case((is_over, 1), else_=row.failures + 1)
    doubled = FIRST_DELAY * func.power(2, func.least(failures - FREE_FAILURES, 10))
    delay = case((failures < FREE_FAILURES, timedelta(0)), else_=func.least(doubled, LONGEST_DELAY))
    taken = await session.scalar(
        insert(row)
        .values(address_digest=address, failures=1, last_failed_at=now, blocked_until=now)
        .on_conflict_do_update(
            index_elements=[row.address_digest],
            set_={"failures": failures, "last_failed_at": now, "blocked_until": now + delay},
            where=row.blocked_until <= now,
        )
        .returning(row.failures)
    )
    if taken is None:
        wait_s = await session.scalar(
            select(func.extract("epoch", row.blocked_until - now)).where(row.address_digest == address)
        )
        raise RateLimited("too many failed sign-ins: wait", retry_after_s=max(1, int(wait_s or 0) + 1))


async def forget(session: AsyncSession, address: bytes) -> None:
    """Forget an address's failures after it signed in, and everybody's from before yesterday."""
    await session.execute(
        delete(SignInFailureRow).where(
            (SignInFailureRow.address_digest == address) | (SignInFailureRow.last_failed_at < func.now() - KEPT)
        )
    )
