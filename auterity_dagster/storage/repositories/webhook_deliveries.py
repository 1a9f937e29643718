"""Events on their way out: written once for each endpoint, claimed in their subject's order, kept until they arrive."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import exists, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from auterity_dagster.automatrix.webhook_event import envelope, next_delay, subject_of
from auterity_dagster.storage.repositories import audit, outbox_relay
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.tables.webhooks import WebhookDeliveryRow, WebhookEndpointRow
from auterity_dagster.storage.tables.workflows import OutboxRow

DUE = text("SELECT organization_id FROM organizations_with_webhooks(:now)")
FAN_OUT = 500
CLAIM = 20
LEASE = timedelta(seconds=60)
WEBHOOKS = "webhooks"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A claimed delivery with the endpoint it is for."""

    delivery: WebhookDeliveryRow
    endpoint: WebhookEndpointRow


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt came to: `status` where the receiver answered, `error` a sentence where it failed."""

    status: int | None
    error: str | None

    @property
    def is_delivered(self) -> bool:
        """True for every 2xx."""
        return self.error is None


async def due(session: AsyncSession, *, now: datetime) -> Sequence[UUID]:
    """Return the organizations with events to write down or to deliver."""
    return list(await session.scalars(DUE, {"now": now}))


async def fan_out(session: AsyncSession, *, now: datetime) -> int:
    """Write a delivery for each new event of each endpoint; the cursor moves in the same transaction."""
    head = await outbox_relay.head(session)
    waiting = select(WebhookEndpointRow).where(WebhookEndpointRow.state == "on", WebhookEndpointRow.cursor < head)
    written = 0
    for endpoint in (await session.scalars(waiting.with_for_update(skip_locked=True))).all():
        events = (
            await session.scalars(
                select(OutboxRow)
                .where(OutboxRow.position > endpoint.cursor, OutboxRow.position <= head, _wanted(endpoint))
                .order_by(OutboxRow.position)
                .limit(FAN_OUT)
            )
        ).all()
        if events:
            await session.execute(insert(WebhookDeliveryRow).values([_row(endpoint, one, now) for one in events]))
        written += len(events)
        endpoint.cursor = head if len(events) < FAN_OUT else events[-1].position or head
    return written


async def claim(session: AsyncSession, *, now: datetime) -> list[Outgoing]:
    """Lease the next delivery of each subject; a later one of the subject waits until it arrived."""
    earlier = aliased(WebhookDeliveryRow)
    first = ~exists().where(
        earlier.organization_id == WebhookDeliveryRow.organization_id,
        earlier.endpoint_id == WebhookDeliveryRow.endpoint_id,
        earlier.subject == WebhookDeliveryRow.subject,
        earlier.position < WebhookDeliveryRow.position,
        earlier.state != "delivered",
    )
    rows = await session.execute(
        select(WebhookDeliveryRow, WebhookEndpointRow)
        .join(
            WebhookEndpointRow,
            (WebhookEndpointRow.organization_id == WebhookDeliveryRow.organization_id)
            & (WebhookEndpointRow.id == WebhookDeliveryRow.endpoint_id),
        )
        .where(
            WebhookEndpointRow.state == "on",
            WebhookDeliveryRow.state == "pending",
            WebhookDeliveryRow.next_attempt_at <= now,
            first,
        )
        .order_by(WebhookDeliveryRow.position)
        .limit(CLAIM)
        .with_for_update(of=WebhookDeliveryRow, skip_locked=True)
    )
    claimed = [Outgoing(delivery, endpoint) for delivery, endpoint in rows]
    for one in claimed:
        one.delivery.next_attempt_at = now + LEASE
        one.delivery.attempts += 1
    return claimed


async def record(session: AsyncSession, outgoing: Outgoing, attempt: Attempt, *, jitter: float, now: datetime) -> None:
    """Write down what an attempt came to; after the last one the endpoint is switched off and that is announced."""
    which = (
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.id == outgoing.delivery.id, WebhookDeliveryRow.state == "pending")
        .values(last_status=attempt.status, last_error=attempt.error)
    )
    if attempt.is_delivered:
        await session.execute(which.values(state="delivered", delivered_at=now))
        return
    delay = None if attempt.status == 410 else next_delay(outgoing.delivery.attempts, jitter=jitter)
    if delay is not None:
        await session.execute(which.values(next_attempt_at=now + delay))
        return
    await session.execute(which.values(state="dead"))
    await _switch_off(session, outgoing, attempt.error or "", now)


async def _switch_off(session: AsyncSession, outgoing: Outgoing, error: str, now: datetime) -> None:
    endpoint = outgoing.endpoint
    reason = f"{outgoing.delivery.attempts} attempts failed: {error}"
    off = await session.scalar(
        update(WebhookEndpointRow)
        .where(WebhookEndpointRow.id == endpoint.id, WebhookEndpointRow.state == "on")
        .values(state="off", off_reason=reason, changed_at=now)
        .returning(WebhookEndpointRow.id)
    )
    if off is None:
        return
    shown = {"webhook_id": str(endpoint.id), "reason": reason}
    await session.execute(
        announcement(endpoint.organization_id, topic=WEBHOOKS, kind="webhook.switched_off", payload=shown, now=now)
    )
    subject = f"webhooks/{endpoint.id}"
    await audit.append(session, actor=None, action="webhook.switched_off", subject=subject, details={})


def _wanted(endpoint: WebhookEndpointRow) -> Any:
    topics = set(endpoint.topics)
    named = OutboxRow.topic.in_(topics - {"steps"})
    if "steps" not in topics:
        return named
    return or_(named, OutboxRow.topic.startswith("execution/") & (OutboxRow.type == "execution.step"))


def _row(endpoint: WebhookEndpointRow, event: OutboxRow, now: datetime) -> dict[str, Any]:
    assert event.position is not None
    return {
        "organization_id": endpoint.organization_id,
        "id": uuid4(),
        "endpoint_id": endpoint.id,
        "position": event.position,
        "subject": subject_of(event.payload),
        "envelope": envelope(
            event_id=event.id,
            organization_id=endpoint.organization_id,
            kind=event.type,
            payload=event.payload,
            position=event.position,
            at=event.created_at,
        ),
        "state": "pending",
        "attempts": 0,
        "next_attempt_at": now,
        "created_at": now,
    }
