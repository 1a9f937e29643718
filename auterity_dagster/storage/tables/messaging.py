"""Tables of what was said to customers and by them, what they agreed to, and whom nothing is sent to."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class MessageRow(Base):
    """One message of a thread; an outbound one is written with the decision about it, also when it never left."""

    __tablename__ = "message"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    contact_id: Mapped[UUID]
    channel: Mapped[str]
    direction: Mapped[str]
    purpose: Mapped[str | None]
    author: Mapped[str]
    text: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str | None]
    rules: Mapped[list[Any]]
    execution_id: Mapped[UUID | None]
    effect_key: Mapped[str | None]
    provider_ref: Mapped[str | None]
    created_at: Mapped[datetime]


class ContactConsentRow(Base):
    """What a contact agreed to over a channel, and how one knows."""

    __tablename__ = "contact_consent"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID]
    channel: Mapped[str]
    level: Mapped[str]
    evidence: Mapped[str]
    granted_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class SuppressionRow(Base):
    """An address that nothing is sent to, by its digest: whichever contact has it, over this channel or over all."""

    __tablename__ = "suppression"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    address_digest: Mapped[bytes]
    contact_id: Mapped[UUID | None]
    channel: Mapped[str | None]
    reason: Mapped[str]
    evidence: Mapped[str]
    rules: Mapped[list[Any]]
    state: Mapped[str]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
