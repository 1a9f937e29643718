"""Webhooks of lead senders, and the sources they sign for."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.automatrix.adf_text import BYTE_LIMIT
from auterity_dagster.automatrix.inbound import InboundState
from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter, raw_body
from auterity_dagster.serving.delivery import or_unavailable, take
from auterity_dagster.serving.webhook_signature import refused, verify
from auterity_dagster.storage.repositories import audit, organizations, webhook_sources
from auterity_dagster.storage.repositories.inbound_events import Delivery
from auterity_dagster.storage.repositories.webhook_sources import SourceKind, source_secret

router = DeclaredRouter(tags=["webhooks"])

CONTENT_TYPES = {
    "adf": frozenset({"application/xml", "text/xml", "application/adf+xml"}),
    "json": frozenset({"application/json", "application/cloudevents+json"}),
}


class DeliveryRead(BaseModel):
    """A delivery that is stored; `state` is `received` if it is judged a little later."""

    inbound_event_id: UUID
    state: InboundState


class WebhookSourceWrite(BaseModel):
    """Who will send what to which dealership."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dealership_id: UUID
    name: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    kind: SourceKind


class WebhookSourceRead(BaseModel):
    """A source as it is listed."""

    id: UUID
    dealership_id: UUID
    name: str
    kind: SourceKind
    path: str
    created_at: datetime


class WebhookSourceMade(WebhookSourceRead):
    """A new source with its signing secret: it is shown this once and stored nowhere."""

    secret: str


@router.post(
    "/hooks/{source_id}",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=BYTE_LIMIT,
    audit_class="none",
    status_code=202,
    problems=(409, 415),
    openapi_extra=raw_body(*sorted(CONTENT_TYPES["adf"] | CONTENT_TYPES["json"])),
)
async def receive(source_id: UUID, request: Request, state: State) -> DeliveryRead:
    """Take a signed delivery: 202 once it is stored, whatever its content turns out to be."""
    body = await request.body()
    async with or_unavailable(), state.database.begin_without_organization() as session:
        organization_id = await webhook_sources.locate(session, source_id)
    # An unknown source costs the same work and gets the same answer as a wrong signature.
    secret = source_secret(state.pepper, organization_id=organization_id or source_id, source_id=source_id)
    now = state.clock.now()
    message_id = verify(secret, request.headers, body, now=now)
    if organization_id is None:
        raise refused()
    async with or_unavailable(), state.database.begin(organization_id) as session:
        source = await webhook_sources.get(session, source_id)
    if source is None:
        raise refused()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in CONTENT_TYPES[source.kind]:
        allowed = ", ".join(sorted(CONTENT_TYPES[source.kind]))
        raise Invalid(f"this source sends {allowed}", code="unsupported_media_type")
    delivery = Delivery(source.dealership_id, f"hook:{source.id}", source.id, message_id, source.kind, body, now)
    event_id, judged = await take(state.database, organization_id, delivery, pepper=state.pepper, clock=state.clock)
    return DeliveryRead(inbound_event_id=event_id, state=judged)


@router.post(
    "/webhook-sources",
    authentication="user",
    permission=Permission.KEY_MANAGE,
    body_limit_bytes=4096,
    audit_class="change",
    status_code=201,
    problems=(404, 409),
)
async def create_source(write: WebhookSourceWrite, state: State, principal: CurrentPrincipal) -> WebhookSourceMade:
    """Make a source; its secret is in this answer and nowhere else."""
    if not principal.may_see(write.dealership_id):
        raise NotFound("there is no such dealership")
    async with state.database.begin(principal.organization_id) as session:
        await organizations.get_dealership(session, write.dealership_id)
        source = await webhook_sources.create(
            session, dealership_id=write.dealership_id, name=write.name, kind=write.kind, now=state.clock.now()
        )
        await audit.append(
            session,
            actor=principal,
            action="webhook_source.created",
            subject=f"webhook-sources/{source.id}",
            details={"dealership_id": str(source.dealership_id), "kind": source.kind},
        )
    secret = source_secret(state.pepper, organization_id=principal.organization_id, source_id=source.id)
    return WebhookSourceMade(**_read(source).model_dump(), secret=secret)


@router.get(
    "/webhook-sources",
    authentication="user",
    permission=Permission.KEY_MANAGE,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_sources(state: State, principal: CurrentPrincipal) -> list[WebhookSourceRead]:
    """Return the organization's sources; nobody can read a secret again."""
    async with state.database.begin(principal.organization_id) as session:
        found = await webhook_sources.every(session)
    return [_read(source) for source in found if principal.may_see(source.dealership_id)]


def _read(source: webhook_sources.WebhookSource) -> WebhookSourceRead:
    return WebhookSourceRead(
        id=source.id,
        dealership_id=source.dealership_id,
        name=source.name,
        kind=source.kind,
        path=f"/api/v1/hooks/{source.id}",
        created_at=source.created_at,
    )
