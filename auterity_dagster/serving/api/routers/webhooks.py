"""Outbound webhooks: who gets which events, what arrived, and trying again what did not."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auterity_dagster.automatrix.webhook_event import Topic
from auterity_dagster.identity.permission import Permission
from auterity_dagster.public_address import target_of
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, webhook_endpoints
from auterity_dagster.storage.repositories.webhook_endpoints import signing_secrets

router = DeclaredRouter(tags=["webhooks"])
MANAGE: dict[str, Any] = {"authentication": "user", "permission": Permission.WEBHOOK_MANAGE}
READ: dict[str, Any] = {**MANAGE, "body_limit_bytes": 0, "audit_class": "none"}
CHANGE: dict[str, Any] = {**MANAGE, "body_limit_bytes": 0, "audit_class": "change", "problems": (404,)}


class WebhookAdd(BaseModel):
    """Where events go, and which; `steps` are the single steps of every execution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    topics: Annotated[tuple[Topic, ...], Field(min_length=1, max_length=6)]


class WebhookRead(BaseModel):
    """An endpoint as it is listed; one that is off says why and gets nothing until it is redelivered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    url: str
    topics: list[Topic]
    state: Literal["on", "off"]
    off_reason: str | None
    previous_until: datetime | None
    created_at: datetime


class WebhookMade(WebhookRead):
    """A new endpoint or secret: the secret is shown this once and stored nowhere."""

    secret: str


class WebhookDeliveryRead(BaseModel):
    """One event on its way, or arrived."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    position: int
    subject: str
    state: Literal["pending", "delivered", "dead"]
    attempts: int
    next_attempt_at: datetime
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None


class Redelivered(BaseModel):
    """How many events are tried again."""

    deliveries: int


@router.post("/webhooks", **{**CHANGE, "body_limit_bytes": 8192, "problems": ()}, status_code=201)
async def add_webhook(write: WebhookAdd, state: State, principal: CurrentPrincipal) -> WebhookMade:
    """Make an endpoint; it gets what happens from now on. A URL that may not be called is refused here already."""
    target_of(write.url, private_origins=state.settings.private_origins)
    now = state.clock.now()
    async with state.database.begin(principal.organization_id) as session:
        row = await webhook_endpoints.create(session, url=write.url, topics=tuple(dict.fromkeys(write.topics)), now=now)
        subject, details = f"webhooks/{row.id}", {"topics": list(row.topics)}
        await audit.append(session, actor=principal, action="webhook.created", subject=subject, details=details)
    secret = signing_secrets(state.pepper, row, now=now)[0]
    return WebhookMade(**WebhookRead.model_validate(row).model_dump(), secret=secret)


@router.get("/webhooks", **READ)
async def list_webhooks(state: State, principal: CurrentPrincipal) -> list[WebhookRead]:
    """Return the organization's endpoints."""
    async with state.database.begin(principal.organization_id) as session:
        return [WebhookRead.model_validate(row) for row in await webhook_endpoints.every(session)]


@router.get("/webhooks/{webhook_id}/deliveries", **READ, problems=(404,))
async def list_deliveries(
    webhook_id: UUID,
    state: State,
    principal: CurrentPrincipal,
    wanted: Annotated[Literal["pending", "delivered", "dead"] | None, Query(alias="state")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[WebhookDeliveryRead]:
    """Return what was sent or waits, newest first."""
    async with state.database.begin(principal.organization_id) as session:
        await webhook_endpoints.get(session, webhook_id)
        found = await webhook_endpoints.deliveries(session, webhook_id, state=wanted, limit=limit)
    return [WebhookDeliveryRead.model_validate(row) for row in found]


@router.post("/webhooks/{webhook_id}/redeliver", **CHANGE)
async def redeliver(webhook_id: UUID, state: State, principal: CurrentPrincipal) -> Redelivered:
    """Switch the endpoint on and try everything that did not arrive again, in order."""
    async with state.database.begin(principal.organization_id) as session:
        count = await webhook_endpoints.redeliver(session, webhook_id, now=state.clock.now())
        subject, details = f"webhooks/{webhook_id}", {"deliveries": count}
        await audit.append(session, actor=principal, action="webhook.redelivered", subject=subject, details=details)
    return Redelivered(deliveries=count)


@router.post("/webhooks/{webhook_id}/rotate", **CHANGE)
async def rotate_secret(webhook_id: UUID, state: State, principal: CurrentPrincipal) -> WebhookMade:
    """Make a new secret; for a day every delivery is signed with both."""
    now = state.clock.now()
    async with state.database.begin(principal.organization_id) as session:
        row = await webhook_endpoints.rotate(session, webhook_id, now=now)
        await session.flush()
        subject = f"webhooks/{webhook_id}"
        await audit.append(session, actor=principal, action="webhook.secret_rotated", subject=subject, details={})
    secret = signing_secrets(state.pepper, row, now=now)[0]
    return WebhookMade(**WebhookRead.model_validate(row).model_dump(), secret=secret)


@router.delete("/webhooks/{webhook_id}", **CHANGE, status_code=204)
async def remove_webhook(webhook_id: UUID, state: State, principal: CurrentPrincipal) -> None:
    """Delete an endpoint with everything that waits for it."""
    async with state.database.begin(principal.organization_id) as session:
        await webhook_endpoints.remove(session, webhook_id)
        subject = f"webhooks/{webhook_id}"
        await audit.append(session, actor=principal, action="webhook.removed", subject=subject, details={})
