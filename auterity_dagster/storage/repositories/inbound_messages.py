"""What customers write: kept once, obeyed where it ends messages, and told to workflows as `message.received`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.compliance.opt_out import is_resuming, read_opt_out
from auterity_dagster.automatrix.compliance.rows import ComplianceRows
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.instruction_like import looks_like_instructions
from auterity_dagster.storage.repositories import suppressions
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.events import deliver
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.tables.inbound import ContactRow
from auterity_dagster.storage.tables.messaging import MessageRow

FIND = text("SELECT organization_id FROM find_sms_connection(:connection_id)")
MESSAGES = "messages"
TEXT_LIMIT = 5000
Became = Literal["received", "duplicate", "opted_out", "resumed", "unknown_sender"]


@dataclass(frozen=True, slots=True)
class InboundSms:
    """A text message as the service passed it on; `provider_ref` is the service's own id for it."""

    provider_ref: str
    sender: str
    text: str


async def locate(session: AsyncSession, connection_id: UUID) -> UUID | None:
    """Return the organization of a text service's connection, across organizations."""
    return await session.scalar(FIND, {"connection_id": connection_id})


async def take(session: AsyncSession, message: InboundSms, *, rows: ComplianceRows, now: datetime) -> Became:
    """Keep a message in the caller's transaction; an opt-out holds from its commit on, whoever else is sending."""
    contacts = await suppressions.locked_contacts(session, message.sender)
    newest = max(contacts, key=lambda one: one.created_at, default=None)
    opt_out = read_opt_out(message.text, rows.in_force(now, ()))
    if newest is not None and not await _keep(session, newest, message, now):
        return "duplicate"
    if opt_out is not None:
        await suppressions.add(
            session,
            message.sender,
            channel="sms" if opt_out.ends == "channel" else None,
            reason="opted_out",
            evidence=message.text,
            rules=opt_out.rules,
            state="in_force" if opt_out.is_certain else "to_confirm",
            contact_id=None if newest is None else newest.id,
            now=now,
        )
        return "opted_out"
    if is_resuming(message.text):
        await suppressions.lift_of_address(session, message.sender, channel="sms", now=now)
        return "resumed"
    if newest is None:
        return "unknown_sender"
    await _tell(session, newest, message, now)
    return "received"


async def _keep(session: AsyncSession, contact: ContactRow, message: InboundSms, now: datetime) -> bool:
    kept = await session.scalar(
        insert(MessageRow)
        .values(
            organization_id=contact.organization_id,
            id=uuid4(),
            dealership_id=contact.dealership_id,
            contact_id=contact.id,
            channel="sms",
            direction="in",
            author="customer",
            text=message.text[:TEXT_LIMIT],
            state="received",
            rules=[],
            provider_ref=message.provider_ref,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(MessageRow.id)
    )
    return kept is not None


async def _tell(session: AsyncSession, contact: ContactRow, message: InboundSms, now: datetime) -> None:
    organization_id = organization_of(session.sync_session)
    event = Event(
        id=uuid4(),
        type="message.received",
        organization_id=organization_id,
        dealership_id=contact.dealership_id,
        subject=f"contacts/{contact.id}",
        time=now,
        dedupe_key=f"sms:{message.provider_ref}",
        data={
            "contact_id": str(contact.id),
            "customer_name": contact.name,
            "channel": "sms",
            "text": message.text[:TEXT_LIMIT],
            "is_untrusted": True,
            "flags": ["instruction_like_text"] if looks_like_instructions(message.text) else [],
        },
    )
    await deliver(session, event)
    shown = {"contact_id": str(contact.id), "dealership_id": str(contact.dealership_id)}
    await session.execute(
        announcement(organization_id, topic=MESSAGES, kind="message.received", payload=shown, now=now)
    )


async def of_contact(session: AsyncSession, contact_id: UUID, *, limit: int) -> list[MessageRow]:
    """Return a contact's thread, newest first, with what a rule stopped."""
    query = select(MessageRow).where(MessageRow.contact_id == contact_id)
    return list(await session.scalars(query.order_by(MessageRow.created_at.desc(), MessageRow.id).limit(limit)))
