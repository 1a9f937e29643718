"""Refresh tokens: claimed by one guarded update, so that of many callers with the same token all get one successor.

Times are PostgreSQL's: several API processes agree on them.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.identity.refresh_token import ABSOLUTE, GRACE, IDLE, successor_of
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.identity import RefreshTokenRow

FIND_REFRESH_TOKEN = text("SELECT organization_id, token_id FROM find_refresh_token(:digest)")

Outcome = Literal["rotated", "expired", "replayed"]


@dataclass(frozen=True, slots=True)
class LocatedToken:
    """Whose a refresh token is."""

    organization_id: UUID
    token_id: UUID


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of a presented token; `successor` is there when it was rotated.

    The caller raises only after the transaction: a killed family must stay killed.
    """

    outcome: Outcome
    user_id: UUID
    family_id: UUID
    session_epoch: int
    successor: str | None = None


async def locate(session: AsyncSession, *, token: str) -> LocatedToken | None:
    """Return whose a token is, across organizations."""
    found = (await session.execute(FIND_REFRESH_TOKEN, {"digest": _digest(token)})).one_or_none()
    return LocatedToken(found.organization_id, found.token_id) if found is not None else None


async def begin_family(session: AsyncSession, *, token: str, user_id: UUID, session_epoch: int) -> UUID:
    """Store the first token of a new sign-in and return its family."""
    family_id = uuid4()
    await session.execute(
        insert(RefreshTokenRow).values(
            organization_id=organization_of(session.sync_session),
            id=uuid4(),
            user_id=user_id,
            family_id=family_id,
            token_digest=_digest(token),
            session_epoch=session_epoch,
            expires_at=func.now() + IDLE,
            family_expires_at=func.now() + ABSOLUTE,
        )
    )
    return family_id


async def rotate(session: AsyncSession, token_id: UUID, *, token: str, pepper: bytes) -> Rotation:
    """Claim a token and store its successor; a later replay kills the whole family.

    Within the grace the same successor is handed out again: it is derived from the token, so nothing needs storing.
    """
    successor = successor_of(pepper, token=token)
    claimed = (
        await session.scalars(
            update(RefreshTokenRow)
            .where(
                RefreshTokenRow.id == token_id,
                RefreshTokenRow.used_at.is_(None),
                RefreshTokenRow.revoked_at.is_(None),
                RefreshTokenRow.expires_at > func.now(),
                RefreshTokenRow.family_expires_at > func.now(),
            )
            .values(used_at=func.now())
            .returning(RefreshTokenRow)
        )
    ).one_or_none()
    if claimed is not None:
        await _store_successor(session, parent=claimed, successor=successor)
        return _rotation("rotated", claimed, successor=successor)
    return await _already_used(session, token_id, successor=successor)


async def _store_successor(session: AsyncSession, *, parent: RefreshTokenRow, successor: str) -> None:
    await session.execute(
        insert(RefreshTokenRow).values(
            organization_id=parent.organization_id,
            id=uuid4(),
            user_id=parent.user_id,
            family_id=parent.family_id,
            token_digest=_digest(successor),
            session_epoch=parent.session_epoch,
            expires_at=func.now() + IDLE,
            family_expires_at=parent.family_expires_at,
        )
    )


async def _already_used(session: AsyncSession, token_id: UUID, *, successor: str) -> Rotation:
    # clock_timestamp: this transaction may be older than the one that it waited for.
    age = func.clock_timestamp() - RefreshTokenRow.used_at
    row, used_for = (
        await session.execute(
            select(RefreshTokenRow, age).where(RefreshTokenRow.id == token_id).execution_options(populate_existing=True)
        )
    ).one()
    if row.revoked_at is not None or used_for is None:
        return _rotation("expired", row)
    if used_for <= GRACE:
        return _rotation("rotated", row, successor=successor)
    await revoke_family(session, row.family_id)
    return _rotation("replayed", row)


async def revoke_family(session: AsyncSession, family_id: UUID) -> None:
    """End one sign-in and all its successors."""
    await session.execute(
        update(RefreshTokenRow)
        .where(RefreshTokenRow.family_id == family_id, RefreshTokenRow.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def revoke_token(session: AsyncSession, token_id: UUID) -> UUID | None:
    """End the sign-in that a token belongs to and return whose it was; None if it had ended already."""
    row = (
        await session.scalars(
            select(RefreshTokenRow).where(RefreshTokenRow.id == token_id, RefreshTokenRow.revoked_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        return None
    await revoke_family(session, row.family_id)
    return row.user_id


def _rotation(outcome: Outcome, row: RefreshTokenRow, *, successor: str | None = None) -> Rotation:
    return Rotation(
        outcome=outcome,
        user_id=row.user_id,
        family_id=row.family_id,
        session_epoch=row.session_epoch,
        successor=successor,
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
