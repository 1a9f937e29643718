"""Contacts: one for each exact set of addresses, so that nobody's lead can redirect messages meant for another."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.lead import Phone
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.inbound import ContactRow


def ensure_contact_blocking(
    session: Session,
    *,
    dealership_id: UUID,
    name: str,
    emails: Sequence[str],
    phones: Sequence[Phone],
    now: datetime,
    is_business: bool = False,
) -> UUID:
    """Return the dealership's contact with exactly these addresses, made if there is none; addresses are usable."""
    digest = _address_digest(emails, phones)
    made = session.scalar(
        insert(ContactRow)
        .values(
            organization_id=organization_of(session),
            id=uuid4(),
            dealership_id=dealership_id,
            address_digest=digest,
            name=name,
            is_business=is_business,
            email=next(iter(emails), None),
            mobile=_mobile(phones),
            emails=list(emails),
            phones=[asdict(phone) for phone in phones],
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["organization_id", "dealership_id", "address_digest"])
        .returning(ContactRow.id)
    )
    if made is not None:
        return made
    same = select(ContactRow.id).where(ContactRow.dealership_id == dealership_id, ContactRow.address_digest == digest)
    return session.scalars(same).one()


async def ensure_contact(
    session: AsyncSession,
    *,
    dealership_id: UUID,
    name: str,
    emails: Sequence[str],
    phones: Sequence[Phone],
    now: datetime,
    is_business: bool = False,
) -> UUID:
    """The same for async code."""
    return await session.run_sync(
        ensure_contact_blocking,
        dealership_id=dealership_id,
        name=name,
        emails=emails,
        phones=phones,
        now=now,
        is_business=is_business,
    )


def _mobile(phones: Sequence[Phone]) -> str | None:
    mobiles = sorted((phone for phone in phones if phone.kind == "mobile"), key=lambda phone: not phone.is_preferred)
    return mobiles[0].number if mobiles else None


def _address_digest(emails: Sequence[str], phones: Sequence[Phone]) -> bytes:
    addresses = [sorted(emails), sorted((phone.number, phone.kind, phone.is_preferred) for phone in phones)]
    return hashlib.sha256(json.dumps(addresses).encode()).digest()
