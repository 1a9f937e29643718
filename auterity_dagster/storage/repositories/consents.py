"""Consents to training: given by a person for a text in a version, current until revoked."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Select, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.storage.tables.datasets import ConsentRow


def current_consents(session: Session, *, dealership_id: UUID | None = None) -> Sequence[ConsentRow]:
    """Return the organization's consents in force, oldest first; only those for one dealership if that is given."""
    return session.scalars(_current(dealership_id)).all()


async def list_consents(session: AsyncSession) -> Sequence[ConsentRow]:
    """Return every consent that was ever given, newest first."""
    return (await session.scalars(select(ConsentRow).order_by(ConsentRow.given_at.desc(), ConsentRow.id))).all()


async def give_consent(
    session: AsyncSession,
    *,
    organization_id: UUID,
    dealership_id: UUID | None,
    text_version: str,
    given_by: UUID,
    now: datetime,
) -> ConsentRow:
    """Record a consent."""
    row = ConsentRow(
        organization_id=organization_id,
        id=uuid4(),
        dealership_id=dealership_id,
        text_version=text_version,
        given_by=given_by,
        given_at=now,
    )
    session.add(row)
    await session.flush()
    return row


async def revoke_consent(session: AsyncSession, consent_id: UUID, *, by: UUID, now: datetime) -> ConsentRow:
    """End a consent: the next version of a dataset is made without its rows. Raises `NotFound`, `Conflict`."""
    revoked = await session.scalar(
        update(ConsentRow)
        .where(ConsentRow.id == consent_id, ConsentRow.revoked_at.is_(None))
        .values(revoked_by=by, revoked_at=now)
        .returning(ConsentRow)
    )
    if revoked is not None:
        return revoked
    if await session.scalar(select(ConsentRow.id).where(ConsentRow.id == consent_id)) is None:
        raise NotFound("There is no such consent.")
    raise Conflict("This consent was revoked before.", code="consent_revoked")


def _current(dealership_id: UUID | None) -> Select[ConsentRow]:
    query = select(ConsentRow).where(ConsentRow.revoked_at.is_(None)).order_by(ConsentRow.given_at, ConsentRow.id)
    if dealership_id is None:
        return query
    return query.where(or_(ConsentRow.dealership_id.is_(None), ConsentRow.dealership_id == dealership_id))
