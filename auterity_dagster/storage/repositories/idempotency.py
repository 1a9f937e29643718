"""Calls by their `Idempotency-Key`: claimed with the hold, here looked up, completed with their answer, or set free."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.relaycore.chat import IdempotencyClaim
from auterity_dagster.storage.tables.ledger import HoldRow, IdempotencyRow

ANSWER_WITHIN = timedelta(seconds=60)
"""A process that lives writes the answer long before; after it, nobody will."""

CallState = Literal["running", "lost", "done"]


@dataclass(frozen=True, slots=True)
class KnownCall:
    """What is known of a key: `running`, `done` with its sealed answer, or `lost`: nobody can say how it ended."""

    id: UUID
    request_digest: bytes
    state: CallState
    answer: bytes | None


async def find(session: AsyncSession, key_digest: bytes) -> KnownCall | None:
    """Return the call that holds the key, or None when it is free. By the database's clock."""
    is_recent = HoldRow.closed_at > func.now() - ANSWER_WITHIN
    is_open = (HoldRow.state == "held") & (HoldRow.expires_at > func.now())
    found = (
        await session.execute(
            select(IdempotencyRow, HoldRow.state != "unknown", is_open | is_recent)
            .join(HoldRow, HoldRow.id == IdempotencyRow.hold_id)
            .where(IdempotencyRow.key_digest == key_digest, IdempotencyRow.expires_at > func.now())
        )
    ).one_or_none()
    if found is None:
        return None
    row, is_known, is_alive = found
    state: CallState = "done" if row.answer is not None else "running" if is_known and is_alive else "lost"
    return KnownCall(row.id, row.request_digest, state, row.answer)


async def complete(session: AsyncSession, claim: IdempotencyClaim, *, answer: bytes) -> None:
    """Keep the sealed answer of the call that holds the key; forget keys whose day is over."""
    await session.execute(update(IdempotencyRow).where(*_held_by(claim)).values(answer=answer))
    await session.execute(delete(IdempotencyRow).where(IdempotencyRow.expires_at <= func.now()))


async def release(session: AsyncSession, claim: IdempotencyClaim) -> None:
    """Set the key free: the caller was told to come again."""
    await session.execute(delete(IdempotencyRow).where(*_held_by(claim)))


def _held_by(claim: IdempotencyClaim):
    return (
        IdempotencyRow.key_digest == claim.key_digest,
        IdempotencyRow.id == claim.id,
        IdempotencyRow.answer.is_(None),
    )
