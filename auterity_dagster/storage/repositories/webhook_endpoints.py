"""Endpoints that get an organization's events; each has a secret that is derived, shown once and stored nowhere."""

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.derivation import derived_secret
from auterity_dagster.storage.repositories import outbox_relay
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.webhooks import WebhookDeliveryRow, WebhookEndpointRow

ROTATION = timedelta(hours=24)
"""How long deliveries carry signatures with both secrets after a rotation."""


def endpoint_secret(pepper: bytes, *, organization_id: UUID, endpoint_id: UUID, version: int) -> str:
    """Return a version of an endpoint's secret in the form of Standard Webhooks, `whsec_…`."""
    parts = (organization_id.bytes, endpoint_id.bytes, version.to_bytes(8, "big"))
    secret = derived_secret(pepper, label="webhook endpoint", parts=parts)
    return f"whsec_{base64.b64encode(secret).decode()}"


def signing_secrets(pepper: bytes, endpoint: WebhookEndpointRow, *, now: datetime) -> tuple[str, ...]:
    """Return the secrets a delivery is signed with now: the newest, and after a rotation the one before for a day."""
    versions = [endpoint.secret_version]
    if endpoint.previous_until is not None and now < endpoint.previous_until:
        versions.append(endpoint.secret_version - 1)
    return tuple(
        endpoint_secret(pepper, organization_id=endpoint.organization_id, endpoint_id=endpoint.id, version=one)
        for one in versions
    )


async def every(session: AsyncSession) -> Sequence[WebhookEndpointRow]:
    """Return the organization's endpoints, the oldest first."""
    query = select(WebhookEndpointRow).order_by(WebhookEndpointRow.created_at, WebhookEndpointRow.id)
    return (await session.scalars(query)).all()


async def get(session: AsyncSession, endpoint_id: UUID, *, is_locked: bool = False) -> WebhookEndpointRow:
    """Return one. Raises `NotFound`."""
    query = select(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id)
    row = (await session.scalars(query.with_for_update() if is_locked else query)).one_or_none()
    if row is None:
        raise NotFound("there is no such webhook")
    return row


async def create(session: AsyncSession, *, url: str, topics: Sequence[str], now: datetime) -> WebhookEndpointRow:
    """Make an endpoint; it gets what happens from now on."""
    endpoint_id = uuid4()
    await session.execute(
        insert(WebhookEndpointRow).values(
            organization_id=organization_of(session.sync_session),
            id=endpoint_id,
            url=url,
            topics=list(topics),
            state="on",
            secret_version=1,
            cursor=await outbox_relay.head(session),
            created_at=now,
            changed_at=now,
        )
    )
    return await get(session, endpoint_id)


async def rotate(session: AsyncSession, endpoint_id: UUID, *, now: datetime) -> WebhookEndpointRow:
    """Give the endpoint a new secret; for a day deliveries are signed with both. Raises `NotFound`."""
    row = await get(session, endpoint_id, is_locked=True)
    row.secret_version += 1
    row.previous_until, row.changed_at = now + ROTATION, now
    return row


async def redeliver(session: AsyncSession, endpoint_id: UUID, *, now: datetime) -> int:
    """Switch an endpoint on and try everything that is not delivered again, now and in order; returns how many."""
    row = await get(session, endpoint_id, is_locked=True)
    row.state, row.off_reason, row.changed_at = "on", None, now
    again: dict[str, Any] = {"state": "pending", "attempts": 0, "next_attempt_at": now}
    undelivered = await session.scalars(
        update(WebhookDeliveryRow)
        .where(WebhookDeliveryRow.endpoint_id == endpoint_id, WebhookDeliveryRow.state != "delivered")
        .values(**again)
        .returning(WebhookDeliveryRow.id)
    )
    return len(undelivered.all())


async def remove(session: AsyncSession, endpoint_id: UUID) -> None:
    """Delete an endpoint with its deliveries. Raises `NotFound`."""
    await get(session, endpoint_id)
    await session.execute(delete(WebhookEndpointRow).where(WebhookEndpointRow.id == endpoint_id))


async def deliveries(
    session: AsyncSession, endpoint_id: UUID, *, state: str | None, limit: int
) -> Sequence[WebhookDeliveryRow]:
    """Return an endpoint's deliveries, newest first."""
    query = select(WebhookDeliveryRow).where(WebhookDeliveryRow.endpoint_id == endpoint_id)
    if state is not None:
        query = query.where(WebhookDeliveryRow.state == state)
    return (await session.scalars(query.order_by(WebhookDeliveryRow.position.desc()).limit(limit))).all()
