"""Deliveries: stored sealed before anybody judges them, one for each of the sender's ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID, uuid4

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.inbound import InboundKind, InboundState, ProspectOutcome, ProspectState
from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.identity.derivation import keyed_digest, length_prefixed
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.sealing import Cell, seal, unseal
from auterity_dagster.storage.tables.inbound import InboundEventRow, InboundProspectRow

UNJUDGED = text("SELECT organization_id, event_id FROM unjudged_inbound_events(:before, :limit)")
TABLE = "inbound_event"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sender delivered: `source` and `message_id` are the sender's name for it."""

    dealership_id: UUID
    source: str
    source_id: UUID | None
    message_id: str
    kind: InboundKind
    raw: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """A stored delivery with what became of it."""

    id: UUID
    dealership_id: UUID
    source: str
    message_id: str
    kind: InboundKind
    state: InboundState
    reason: str | None
    line: int | None
    note: str | None
    received_at: datetime
    prospects: tuple[ProspectOutcome, ...]


async def store(session: AsyncSession, delivery: Delivery, *, pepper: bytes) -> UUID:
    """Store a delivery and return its id; the same one again returns the first one's.

    Raises `Conflict` when the sender used the id for another body.
    """
    organization_id, event_id = organization_of(session.sync_session), uuid4()
    digest = keyed_digest(pepper, label="inbound body", message=length_prefixed([organization_id.bytes, delivery.raw]))
    stored = await session.scalar(
        insert(InboundEventRow)
        .values(
            organization_id=organization_id,
            id=event_id,
            dealership_id=delivery.dealership_id,
            source=delivery.source,
            source_id=delivery.source_id,
            message_id=delivery.message_id,
            kind=delivery.kind,
            body_digest=digest,
            raw=seal(pepper, delivery.raw, cell=Cell(organization_id, TABLE, "raw", event_id)),
            state="received",
            received_at=delivery.received_at,
        )
        .on_conflict_do_nothing(index_elements=["organization_id", "source", "message_id"])
        .returning(InboundEventRow.id)
    )
    if stored is not None:
        return stored
    first = (
        await session.execute(
            select(InboundEventRow.id, InboundEventRow.body_digest).where(
                InboundEventRow.source == delivery.source, InboundEventRow.message_id == delivery.message_id
            )
        )
    ).one()
    if first.body_digest != digest:
        raise Conflict("this id was used for another body", code="webhook_id_reused")
    return first.id


async def lock(session: AsyncSession, event_id: UUID) -> InboundEventRow:
    """Return a delivery's row, held until the transaction ends. Raises `NotFound`."""
    query = select(InboundEventRow).where(InboundEventRow.id == event_id).with_for_update()
    row = (await session.scalars(query)).one_or_none()
    if row is None:
        raise NotFound("there is no such delivery")
    return row


def raw_of(row: InboundEventRow, *, pepper: bytes) -> bytes:
    """Return the delivery's bytes as they came."""
    return unseal(pepper, bytes(row.raw), cell=Cell(row.organization_id, TABLE, "raw", row.id))


async def close(
    session: AsyncSession,
    event_id: UUID,
    *,
    state: InboundState,
    now: datetime,
    reason: str | None = None,
    line: int | None = None,
    note: str | None = None,
) -> None:
    """Record what became of a delivery."""
    values = {"state": state, "reason": reason, "line": line, "note": note, "judged_at": now}
    await session.execute(update(InboundEventRow).where(InboundEventRow.id == event_id).values(**values))


async def record_prospects(session: AsyncSession, event_id: UUID, outcomes: Sequence[ProspectOutcome]) -> None:
    """Write what became of prospects, over what was written before."""
    for outcome in outcomes:
        values = {"state": outcome.state, "reason": outcome.reason, "dedupe_key": outcome.dedupe_key,
                  "lead_id": outcome.lead_id}  # fmt: skip
        key = {"organization_id": organization_of(session.sync_session), "inbound_event_id": event_id}
        statement = insert(InboundProspectRow).values(**key, position=outcome.position, **values)
        await session.execute(statement.on_conflict_do_update(index_elements=[*key, "position"], set_=values))


async def prospects(session: AsyncSession, event_ids: Sequence[UUID]) -> dict[UUID, tuple[ProspectOutcome, ...]]:
    """Return the prospects of deliveries in their documents' order."""
    found: dict[UUID, tuple[ProspectOutcome, ...]] = dict.fromkeys(event_ids, ())
    query = select(InboundProspectRow).where(InboundProspectRow.inbound_event_id.in_(event_ids))
    for row in await session.scalars(query.order_by(InboundProspectRow.position)):
        outcome = ProspectOutcome(row.position, cast(ProspectState, row.state), row.reason, row.dedupe_key, row.lead_id)
        found[row.inbound_event_id] += (outcome,)
    return found


async def get(session: AsyncSession, event_id: UUID) -> InboundEvent:
    """Return one delivery. Raises `NotFound`."""
    row = (await session.scalars(select(InboundEventRow).where(InboundEventRow.id == event_id))).one_or_none()
    if row is None:
        raise NotFound("there is no such delivery")
    return _event(row, (await prospects(session, [event_id]))[event_id])


async def latest(
    session: AsyncSession,
    *,
    state: InboundState | None,
    dealership_ids: frozenset[UUID] | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[InboundEvent]:
    """Return deliveries, newest first; `dealership_ids` None means all of them."""
    query = select(InboundEventRow).order_by(InboundEventRow.received_at.desc(), InboundEventRow.id).limit(limit)
    if state is not None:
        query = query.where(InboundEventRow.state == state)
    if dealership_ids is not None:
        query = query.where(InboundEventRow.dealership_id.in_(dealership_ids))
    if after is not None:
        query = query.where(_beyond(after))
    rows = list(await session.scalars(query))
    found = await prospects(session, [row.id for row in rows])
    return [_event(row, found[row.id]) for row in rows]


async def unjudged(session: AsyncSession, *, before: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """Return organization and id of deliveries nobody judged, across organizations."""
    rows = await session.execute(UNJUDGED, {"before": before, "limit": limit})
    return [(row.organization_id, row.event_id) for row in rows]


def _beyond(after: tuple[datetime, UUID]):
    received_at, event_id = after
    return (InboundEventRow.received_at < received_at) | (
        (InboundEventRow.received_at == received_at) & (InboundEventRow.id > event_id)
    )


def _event(row: InboundEventRow, outcomes: tuple[ProspectOutcome, ...]) -> InboundEvent:
    return InboundEvent(
        id=row.id,
        dealership_id=row.dealership_id,
        source=row.source,
        message_id=row.message_id,
        kind=cast(InboundKind, row.kind),
        state=cast(InboundState, row.state),
        reason=row.reason,
        line=row.line,
        note=row.note,
        received_at=row.received_at,
        prospects=outcomes,
    )
