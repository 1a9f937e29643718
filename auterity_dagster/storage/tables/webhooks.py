"""Tables of webhooks that go out: who gets which events, and each event on its way."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class WebhookEndpointRow(Base):
    """Where events go. `cursor` is the last outbox position whose deliveries are written; the secret is derived."""

    __tablename__ = "webhook_endpoint"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str]
    topics: Mapped[list[Any]]
    state: Mapped[str]
    off_reason: Mapped[str | None]
    secret_version: Mapped[int]
    previous_until: Mapped[datetime | None]
    cursor: Mapped[int]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class WebhookDeliveryRow(Base):
    """One event for one endpoint; `next_attempt_at` is also the end of a worker's lease."""

    __tablename__ = "webhook_delivery"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    position: Mapped[int]
    subject: Mapped[str]
    envelope: Mapped[dict[str, Any]]
    state: Mapped[str]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
