"""What came in: deliveries with what became of them, the quarantine's desk, and leads."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auterity_dagster.automatrix.adf_text import BYTE_LIMIT
from auterity_dagster.automatrix.inbound import InboundKind, InboundState, ProspectOutcome, ProspectState
from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.page_cursor import Cursor, cursor, position
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, inbound_events, inbound_judgement, leads
from auterity_dagster.storage.repositories.inbound_events import InboundEvent

router = DeclaredRouter(tags=["inbound"])
Limit = Annotated[int, Query(ge=1, le=200)]


class ProspectRead(BaseModel):
    """One prospect of a delivery."""

    position: int
    state: ProspectState
    reason: str | None
    dedupe_key: str | None
    lead_id: UUID | None


class InboundRead(BaseModel):
    """One delivery; `reason`, `line` and `note` say why it is quarantined."""

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
    prospects: list[ProspectRead]


class InboundPage(BaseModel):
    """Deliveries, newest first; `next` continues."""

    items: list[InboundRead]
    next: str | None


class InboundAccept(BaseModel):
    """What a person adds: a way to reply to one prospect, or a corrected document as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: Annotated[str, StringConstraints(max_length=254)] = ""
    phone: Annotated[str, StringConstraints(max_length=64)] = ""
    prospect: Annotated[int, Field(ge=0)] | None = None
    document: str | None = None


class LeadRead(BaseModel):
    """A lead; every text in it was written by a stranger."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    dealership_id: UUID
    contact_id: UUID
    inbound_event_id: UUID
    dedupe_key: str
    provider: str | None
    customer_name: str
    channel: str | None
    comments: str
    vehicles: list[dict[str, Any]]
    details: dict[str, Any]
    flags: list[str]
    requested_at: datetime
    received_at: datetime


class LeadPage(BaseModel):
    """Leads, newest first; `next` continues."""

    items: list[LeadRead]
    next: str | None


@router.get(
    "/inbound", authentication="user", permission=Permission.LEAD_MANAGE, body_limit_bytes=0, audit_class="none"
)
async def list_inbound(
    api: State, principal: CurrentPrincipal, state: InboundState | None = None, limit: Limit = 50, after: Cursor = None
) -> InboundPage:
    """Return deliveries, newest first."""
    async with api.database.begin(principal.organization_id) as session:
        found = await inbound_events.latest(
            session,
            state=state,
            dealership_ids=principal.dealership_ids,
            after=position(after),
            limit=limit,
        )
    last = cursor(found[-1].received_at, found[-1].id) if len(found) == limit else None
    return InboundPage(items=[_read(event) for event in found], next=last)


@router.post(
    "/inbound/{event_id}/accept",
    authentication="user",
    permission=Permission.LEAD_MANAGE,
    body_limit_bytes=2 * BYTE_LIMIT,
    audit_class="change",
    problems=(409,),
)
async def accept_inbound(event_id: UUID, write: InboundAccept, api: State, principal: CurrentPrincipal) -> InboundRead:
    """Judge a quarantined delivery again with what is added; it stays quarantined if that does not help."""
    async with api.database.begin(principal.organization_id) as session:
        await _visible(session, principal, event_id)
        became = await inbound_judgement.accept(
            session,
            event_id,
            pepper=api.pepper,
            now=api.clock.now(),
            email=write.email,
            phone=write.phone,
            position=write.prospect,
            document=None if write.document is None else write.document.encode(),
        )
        event = await inbound_events.get(session, event_id)
        await audit.append(
            session,
            actor=principal,
            action="inbound.accepted",
            subject=f"inbound/{event_id}",
            details={"state": became, "has_document": write.document is not None},
        )
    return _read(event)


@router.post(
    "/inbound/{event_id}/discard",
    authentication="user",
    permission=Permission.LEAD_MANAGE,
    body_limit_bytes=1024,
    audit_class="change",
    problems=(409,),
)
async def discard_inbound(event_id: UUID, api: State, principal: CurrentPrincipal) -> InboundRead:
    """Set a quarantined delivery aside."""
    async with api.database.begin(principal.organization_id) as session:
        await _visible(session, principal, event_id)
        await inbound_judgement.discard(session, event_id, now=api.clock.now())
        event = await inbound_events.get(session, event_id)
        await audit.append(
            session, actor=principal, action="inbound.discarded", subject=f"inbound/{event_id}", details={}
        )
    return _read(event)


@router.get("/leads", authentication="user", permission=Permission.LEAD_MANAGE, body_limit_bytes=0, audit_class="none")
async def list_leads(api: State, principal: CurrentPrincipal, limit: Limit = 50, after: Cursor = None) -> LeadPage:
    """Return leads, newest first."""
    async with api.database.begin(principal.organization_id) as session:
        found = await leads.latest(session, dealership_ids=principal.dealership_ids, after=position(after), limit=limit)
    last = cursor(found[-1].received_at, found[-1].id) if len(found) == limit else None
    return LeadPage(items=[LeadRead.model_validate(lead) for lead in found], next=last)


async def _visible(session: Any, principal: Principal, event_id: UUID) -> None:
    event = await inbound_events.get(session, event_id)
    if not principal.may_see(event.dealership_id):
        raise NotFound("there is no such delivery")


def _read(event: InboundEvent) -> InboundRead:
    return InboundRead(
        id=event.id,
        dealership_id=event.dealership_id,
        source=event.source,
        message_id=event.message_id,
        kind=event.kind,
        state=event.state,
        reason=event.reason,
        line=event.line,
        note=event.note,
        received_at=event.received_at,
        prospects=[_prospect(outcome) for outcome in event.prospects],
    )


def _prospect(outcome: ProspectOutcome) -> ProspectRead:
    return ProspectRead(
        position=outcome.position,
        state=outcome.state,
        reason=outcome.reason,
        dedupe_key=outcome.dedupe_key,
        lead_id=outcome.lead_id,
    )
