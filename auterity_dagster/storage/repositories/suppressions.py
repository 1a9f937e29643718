"""Addresses that nothing is sent to: written under the lock of every contact that has the address."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.send_facts import address_digest
from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.inbound import ContactRow
from auterity_dagster.storage.tables.messaging import SuppressionRow

State = Literal["in_force", "to_confirm", "lifted"]


async def locked_contacts(session: AsyncSession, address: str) -> Sequence[ContactRow]:
    """Take every contact with this address for the transaction: no message to them is decided meanwhile."""
    which = or_(ContactRow.mobile == address, ContactRow.email == address.lower())
    rows = await session.scalars(select(ContactRow).where(which).order_by(ContactRow.id).with_for_update())
    return rows.all()


async def add(
    session: AsyncSession,
    address: str,
    *,
    channel: Channel | None,
    reason: str,
    evidence: str,
    rules: Sequence[str],
    state: State,
    contact_id: UUID | None,
    now: datetime,
) -> UUID:
    """Suppress an address over a channel, or over all; the caller holds its contacts."""
    suppression_id = uuid4()
    await session.execute(
        insert(SuppressionRow).values(
            organization_id=organization_of(session.sync_session),
            id=suppression_id,
            address_digest=address_digest(organization_of(session.sync_session), address),
            contact_id=contact_id,
            channel=channel,
            reason=reason,
            evidence=evidence[:500],
            rules=list(rules),
            state=state,
            created_at=now,
            changed_at=now,
        )
    )
    return suppression_id


async def end_emails(session: AsyncSession, contact_id: UUID, *, rules: Sequence[str], now: datetime) -> str | None:
    """A contact wants no more e-mails; once is enough.

    Returns the dealership's name, None for a contact that is gone.
    """
    found = await session.execute(
        select(ContactRow.email, DealershipRow.name)
        .join(DealershipRow, DealershipRow.id == ContactRow.dealership_id)
        .where(ContactRow.id == contact_id)
    )
    contact = found.one_or_none()
    if contact is None:
        return None
    email, dealership = contact
    if email is not None:
        await locked_contacts(session, email)
        if await _in_force(session, email, "email") is None:
            await add(
                session,
                email,
                channel="email",
                reason="opted_out",
                evidence="the link in an e-mail",
                rules=rules,
                state="in_force",
                contact_id=contact_id,
                now=now,
            )
    return dealership


async def _in_force(session: AsyncSession, address: str, channel: Channel) -> UUID | None:
    return await session.scalar(
        select(SuppressionRow.id)
        .where(
            SuppressionRow.address_digest == address_digest(organization_of(session.sync_session), address),
            SuppressionRow.state == "in_force",
            or_(SuppressionRow.channel.is_(None), SuppressionRow.channel == channel),
        )
        .limit(1)
    )


async def lift_of_address(session: AsyncSession, address: str, *, channel: Channel, now: datetime) -> int:
    """The customer asked to be written to again over this channel; returns how many suppressions that lifts."""
    lifted = await session.scalars(
        update(SuppressionRow)
        .where(
            SuppressionRow.address_digest == address_digest(organization_of(session.sync_session), address),
            SuppressionRow.channel == channel,
            SuppressionRow.reason == "opted_out",
            SuppressionRow.state != "lifted",
        )
        .values(state="lifted", changed_at=now)
        .returning(SuppressionRow.id)
    )
    return len(lifted.all())


async def every(session: AsyncSession, *, state: State | None, limit: int) -> Sequence[SuppressionRow]:
    """Return suppressions, newest first."""
    query = select(SuppressionRow).order_by(SuppressionRow.created_at.desc(), SuppressionRow.id).limit(limit)
    return (await session.scalars(query if state is None else query.where(SuppressionRow.state == state))).all()


async def settle(
    session: AsyncSession, suppression_id: UUID, *, state: Literal["in_force", "lifted"], now: datetime
) -> None:
    """A person confirms or lifts one. Raises `NotFound`, and `Conflict` for one that was lifted."""
    row = await session.scalar(select(SuppressionRow).where(SuppressionRow.id == suppression_id).with_for_update())
    if row is None:
        raise NotFound("there is no such suppression")
    if row.state == "lifted":
        raise Conflict("this suppression was lifted: make a new one", code="suppression_lifted")
    row.state, row.changed_at = state, now
