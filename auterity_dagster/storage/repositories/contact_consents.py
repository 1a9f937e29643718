"""Contacts as people see them, and what each agreed to."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.errors import NotFound
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.inbound import ContactRow
from auterity_dagster.storage.tables.messaging import ContactConsentRow


async def find_contact(session: AsyncSession, principal: Principal, contact_id: UUID) -> ContactRow:
    """Return a contact. Raises `NotFound`, also for a dealership that the principal does not see."""
    row = (await session.scalars(select(ContactRow).where(ContactRow.id == contact_id))).one_or_none()
    if row is None or not principal.may_see(row.dealership_id):
        raise NotFound("there is no such contact")
    return row


async def with_address(session: AsyncSession, principal: Principal, address: str, *, limit: int) -> list[ContactRow]:
    """Return the contacts with exactly this number or e-mail address."""
    query = select(ContactRow).where(or_(ContactRow.mobile == address, ContactRow.email == address.lower()))
    rows = await session.scalars(query.order_by(ContactRow.created_at.desc(), ContactRow.id).limit(limit))
    return [row for row in rows if principal.may_see(row.dealership_id)]


async def of_contact(session: AsyncSession, contact_id: UUID) -> Sequence[ContactConsentRow]:
    """Return what a contact agreed to, also what was taken back."""
    query = select(ContactConsentRow).where(ContactConsentRow.contact_id == contact_id)
    return (await session.scalars(query.order_by(ContactConsentRow.granted_at))).all()


async def grant(
    session: AsyncSession,
    contact_id: UUID,
    *,
    channel: Channel,
    level: Literal["express", "written"],
    evidence: str,
    now: datetime,
) -> UUID:
    """Record that a contact agreed."""
    consent_id = uuid4()
    await session.execute(
        insert(ContactConsentRow).values(
            organization_id=organization_of(session.sync_session),
            id=consent_id,
            contact_id=contact_id,
            channel=channel,
            level=level,
            evidence=evidence,
            granted_at=now,
        )
    )
    return consent_id


async def revoke(session: AsyncSession, contact_id: UUID, consent_id: UUID, *, now: datetime) -> None:
    """Record that a contact took it back. Raises `NotFound`."""
    revoked = await session.scalar(
        update(ContactConsentRow)
        .where(
            ContactConsentRow.id == consent_id,
            ContactConsentRow.contact_id == contact_id,
            ContactConsentRow.revoked_at.is_(None),
        )
        .values(revoked_at=now)
        .returning(ContactConsentRow.id)
    )
    if revoked is None:
        raise NotFound("there is no such consent")
