"""Tickets for live connections: one use, 30 seconds, bound to a user and an origin; they work without Redis."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.inbound import LiveTicketRow

LIFETIME = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class PresentedTicket:
    """A ticket somebody presented: it names its organization, whose rows alone are searched for it."""

    organization_id: UUID
    digest: bytes


async def issue(session: AsyncSession, *, user_id: UUID, origin: str | None, now: datetime) -> str:
    """Return a new ticket; expired ones of the organization go."""
    organization_id = organization_of(session.sync_session)
    ticket = f"{organization_id.hex}.{secrets.token_urlsafe(32)}"
    await session.execute(delete(LiveTicketRow).where(LiveTicketRow.expires_at <= now))
    await session.execute(
        insert(LiveTicketRow).values(
            organization_id=organization_id,
            digest=read(ticket).digest,
            user_id=user_id,
            origin=origin,
            expires_at=now + LIFETIME,
        )
    )
    return ticket


def read(ticket: str) -> PresentedTicket:
    """Return what to look up. Raises `NotAuthenticated` for what is no ticket."""
    try:
        organization_id = UUID(hex=ticket.partition(".")[0])
    except ValueError as error:
        raise _refused() from error
    return PresentedTicket(organization_id, hashlib.sha256(ticket.encode("utf-8", "replace")).digest())


async def redeem(session: AsyncSession, presented: PresentedTicket, *, origin: str | None, now: datetime) -> UUID:
    """Use a ticket up and return its user. Raises `NotAuthenticated`, alike for every reason."""
    used = (
        await session.execute(
            delete(LiveTicketRow)
            .where(LiveTicketRow.digest == presented.digest)
            .returning(LiveTicketRow.user_id, LiveTicketRow.origin, LiveTicketRow.expires_at)
        )
    ).one_or_none()
    if used is None or used.expires_at <= now or used.origin != origin:
        raise _refused()
    return used.user_id


def _refused() -> NotAuthenticated:
    return NotAuthenticated("the ticket is not valid", code="invalid_ticket")
