"""Leads: accepted once each, with contact, vaulted values, event and executions in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert as plain_insert
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.inbound import ProspectOutcome, lead_details, lead_event_data
from auterity_dagster.automatrix.lead import Lead, ReadLead, RejectedLead, WantedVehicle
from auterity_dagster.storage.repositories.contacts import ensure_contact
from auterity_dagster.storage.repositories.events import deliver
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.sealing import Cell, seal
from auterity_dagster.storage.tables.inbound import InboundEventRow, LeadRow, VaultRow

LEADS = "leads"


@dataclass(frozen=True, slots=True)
class StoredLead:
    """A lead as it is listed."""

    id: UUID
    dealership_id: UUID
    contact_id: UUID
    inbound_event_id: UUID
    dedupe_key: str
    provider: str | None
    customer_name: str
    channel: str | None
    comments: str
    vehicles: Sequence[Any]
    details: dict[str, Any]
    flags: Sequence[Any]
    requested_at: datetime
    received_at: datetime


async def take(
    session: AsyncSession, found: ReadLead, *, position: int, event: InboundEventRow, pepper: bytes
) -> ProspectOutcome:
    """Make one prospect a lead that starts its workflows, unless nobody can answer it or it is here already."""
    if isinstance(found, RejectedLead):
        return ProspectOutcome(position, "quarantined", reason=found.reason, dedupe_key=found.dedupe_key)
    earlier = await _with_key(session, event.dealership_id, found.dedupe_key)
    if earlier is None:
        lead_id = await _accept(session, found, event=event, pepper=pepper)
        if lead_id is not None:
            return ProspectOutcome(position, "accepted", dedupe_key=found.dedupe_key, lead_id=lead_id)
        # Another delivery with this key committed while ours waited for it.
        earlier = await _with_key(session, event.dealership_id, found.dedupe_key)
    assert earlier is not None
    # A delivery that is judged again, because a person added something, finds the leads it made before.
    state = "accepted" if earlier.inbound_event_id == event.id else "duplicate"
    return ProspectOutcome(position, state, dedupe_key=found.dedupe_key, lead_id=earlier.id)


async def latest(
    session: AsyncSession, *, dealership_ids: frozenset[UUID] | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[StoredLead]:
    """Return leads, newest first; `dealership_ids` None means all of them."""
    query = select(LeadRow).order_by(LeadRow.received_at.desc(), LeadRow.id).limit(limit)
    if dealership_ids is not None:
        query = query.where(LeadRow.dealership_id.in_(dealership_ids))
    if after is not None:
        received_at, lead_id = after
        older = LeadRow.received_at < received_at
        query = query.where(older | ((LeadRow.received_at == received_at) & (LeadRow.id > lead_id)))
    return [
        StoredLead(**{name: getattr(row, name) for name in StoredLead.__slots__})
        for row in await session.scalars(query)
    ]


async def _with_key(session: AsyncSession, dealership_id: UUID, dedupe_key: str) -> LeadRow | None:
    same = select(LeadRow).where(LeadRow.dealership_id == dealership_id, LeadRow.dedupe_key == dedupe_key)
    return (await session.scalars(same)).one_or_none()


async def _accept(session: AsyncSession, lead: Lead, *, event: InboundEventRow, pepper: bytes) -> UUID | None:
    contact_id = await ensure_contact(
        session,
        dealership_id=event.dealership_id,
        name=lead.name,
        emails=lead.emails,
        phones=lead.phones,
        now=event.received_at,
        is_business=lead.is_business,
    )
    lead_id = await session.scalar(
        insert(LeadRow)
        .values(
            organization_id=event.organization_id,
            id=uuid4(),
            dealership_id=event.dealership_id,
            contact_id=contact_id,
            inbound_event_id=event.id,
            dedupe_key=lead.dedupe_key,
            provider=lead.provider,
            customer_name=lead.name,
            channel=lead.channel,
            comments=lead.comments,
            vehicles=[_vehicle(vehicle) for vehicle in lead.vehicles],
            details=dict(lead_details(lead)),
            flags=list(lead.flags),
            requested_at=lead.requested_at,
            received_at=event.received_at,
        )
        .on_conflict_do_nothing(index_elements=["organization_id", "dealership_id", "dedupe_key"])
        .returning(LeadRow.id)
    )
    if lead_id is None:
        return None
    await _vault(session, lead, lead_id=lead_id, event=event, pepper=pepper)
    received = Event(
        id=uuid4(),
        type="lead.received",
        organization_id=event.organization_id,
        dealership_id=event.dealership_id,
        subject=f"leads/{lead_id}",
        time=event.received_at,
        dedupe_key=f"lead.received:{event.dealership_id}:{lead.dedupe_key}",
        data=lead_event_data(lead, lead_id=lead_id, contact_id=contact_id),
    )
    await deliver(session, received)
    shown = {"lead_id": str(lead_id), "dealership_id": str(event.dealership_id), "flags": list(lead.flags)}
    announced = announcement(
        event.organization_id, topic=LEADS, kind="lead.received", payload=shown, now=event.received_at
    )
    await session.execute(announced)
    return lead_id


async def _vault(session: AsyncSession, lead: Lead, *, lead_id: UUID, event: InboundEventRow, pepper: bytes) -> None:
    for value in lead.vaulted:
        value_id = uuid4()
        cell = Cell(event.organization_id, "vault", "sealed", value_id)
        await session.execute(
            plain_insert(VaultRow).values(
                organization_id=event.organization_id,
                id=value_id,
                lead_id=lead_id,
                kind=value.kind,
                field=value.field,
                sealed=seal(pepper, value.value.encode(), cell=cell),
                created_at=event.received_at,
            )
        )


def _vehicle(vehicle: WantedVehicle) -> dict[str, Any]:
    return {name: getattr(vehicle, name) for name in WantedVehicle.__slots__}
