"""Judging a stored delivery: everything that follows from it happens in one transaction, and once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.inbound import (
    InboundKind,
    InboundState,
    ProspectOutcome,
    delivery_state,
    read_document,
)
from auterity_dagster.automatrix.lead_judgement import AddedAddress, ReadingContext
from auterity_dagster.automatrix.quarantine import Quarantined
from auterity_dagster.errors import Conflict, Invalid
from auterity_dagster.storage.repositories import inbound_events, leads
from auterity_dagster.storage.repositories.organizations import get_dealership
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.tables.inbound import InboundEventRow

INBOUND = "inbound"


async def judge(session: AsyncSession, event_id: UUID, *, pepper: bytes, now: datetime) -> InboundState:
    """Judge a delivery unless somebody has; the row's lock lets one worker do it."""
    row = await inbound_events.lock(session, event_id)
    if row.state != "received":
        return _state(row)
    return await _judge(session, row, pepper=pepper, now=now, raw=inbound_events.raw_of(row, pepper=pepper))


async def accept(
    session: AsyncSession,
    event_id: UUID,
    *,
    pepper: bytes,
    now: datetime,
    email: str,
    phone: str,
    position: int | None,
    document: bytes | None,
) -> InboundState:
    """Judge a quarantined delivery again with what a person adds to one prospect, or with a corrected document.

    Raises `NotFound`; `Conflict` unless it is quarantined; `Invalid` when it must be said which prospect is meant.
    """
    row = await inbound_events.lock(session, event_id)
    if row.state != "quarantined":
        raise Conflict(f"the delivery is {row.state}, only a quarantined one can be accepted", state=row.state)
    added = AddedAddress(await _position(session, event_id, position), email, phone) if email or phone else None
    raw = document if document is not None else inbound_events.raw_of(row, pepper=pepper)
    return await _judge(session, row, pepper=pepper, now=now, raw=raw, added=added)


async def discard(session: AsyncSession, event_id: UUID, *, now: datetime) -> None:
    """Set a quarantined delivery aside. Raises `NotFound` or `Conflict`."""
    row = await inbound_events.lock(session, event_id)
    if row.state != "quarantined":
        raise Conflict(f"the delivery is {row.state}, only a quarantined one can be discarded", state=row.state)
    outcomes = (await inbound_events.prospects(session, [event_id]))[event_id]
    dropped = [
        ProspectOutcome(one.position, "discarded", one.reason, one.dedupe_key)
        for one in outcomes
        if one.state == "quarantined"
    ]
    await inbound_events.record_prospects(session, event_id, dropped)
    await inbound_events.close(session, event_id, state="discarded", now=now, reason=row.reason, line=row.line)
    await _announce(session, row, "discarded", now=now)


async def _judge(
    session: AsyncSession,
    row: InboundEventRow,
    *,
    pepper: bytes,
    now: datetime,
    raw: bytes,
    added: AddedAddress | None = None,
) -> InboundState:
    dealership = await get_dealership(session, row.dealership_id)
    context = ReadingContext(received_at=row.received_at, zone=ZoneInfo(dealership.details.time_zone))
    found = read_document(raw, kind=_kind(row), context=context, added=added)
    if isinstance(found, Quarantined):
        await inbound_events.close(
            session, row.id, state="quarantined", now=now, reason=found.reason, line=found.line, note=found.message
        )
        await _announce(session, row, "quarantined", now=now)
        return "quarantined"
    outcomes = tuple(
        [
            await leads.take(session, lead, position=position, event=row, pepper=pepper)
            for position, lead in enumerate(found)
        ]
    )
    await inbound_events.record_prospects(session, row.id, outcomes)
    state = delivery_state(outcomes)
    reason = next((outcome.reason for outcome in outcomes if outcome.state == "quarantined"), None)
    await inbound_events.close(session, row.id, state=state, now=now, reason=reason)
    await _announce(session, row, state, now=now)
    return state


async def _position(session: AsyncSession, event_id: UUID, position: int | None) -> int:
    outcomes: Sequence[ProspectOutcome] = (await inbound_events.prospects(session, [event_id]))[event_id]
    quarantined = [outcome.position for outcome in outcomes if outcome.state == "quarantined"]
    if position is None and len(quarantined) == 1:
        return quarantined[0]
    if position is None or position not in quarantined:
        raise Invalid("say which quarantined prospect the address belongs to", field="prospect", among=quarantined)
    return position


async def _announce(session: AsyncSession, row: InboundEventRow, state: InboundState, *, now: datetime) -> None:
    payload = {"inbound_event_id": str(row.id), "dealership_id": str(row.dealership_id), "state": state}
    kind = f"inbound.{state}"
    await session.execute(announcement(row.organization_id, topic=INBOUND, kind=kind, payload=payload, now=now))


def _kind(row: InboundEventRow) -> InboundKind:
    return "adf" if row.kind == "adf" else "json"


def _state(row: InboundEventRow) -> InboundState:
    states: tuple[InboundState, ...] = ("received", "accepted", "duplicate", "quarantined", "discarded")
    return next(state for state in states if state == row.state)
