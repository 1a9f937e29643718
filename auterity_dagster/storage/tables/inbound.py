"""Tables of what comes in: webhook sources, deliveries, contacts, leads, the vault, stock, and the outbox's head."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class WebhookSourceRow(Base):
    """Somebody who sends leads to one dealership; the secret is derived and stored nowhere."""

    __tablename__ = "webhook_source"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    name: Mapped[str]
    kind: Mapped[str]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class InboundEventRow(Base):
    """One delivery, kept sealed as it came; `source` and `message_id` together are the sender's name for it."""

    __tablename__ = "inbound_event"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    source: Mapped[str]
    source_id: Mapped[UUID | None]
    message_id: Mapped[str]
    kind: Mapped[str]
    body_digest: Mapped[bytes]
    raw: Mapped[bytes]
    state: Mapped[str]
    reason: Mapped[str | None]
    line: Mapped[int | None]
    note: Mapped[str | None]
    received_at: Mapped[datetime]
    judged_at: Mapped[datetime | None]


class InboundProspectRow(Base):
    """What became of one prospect of a delivery."""

    __tablename__ = "inbound_prospect"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    inbound_event_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    reason: Mapped[str | None]
    dedupe_key: Mapped[str | None]
    lead_id: Mapped[UUID | None]


class ContactRow(Base):
    """A person or company a dealership may answer; `address_digest` stands for exactly these addresses."""

    __tablename__ = "contact"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    address_digest: Mapped[bytes]
    name: Mapped[str]
    is_business: Mapped[bool]
    email: Mapped[str | None]
    mobile: Mapped[str | None]
    emails: Mapped[list[Any]]
    phones: Mapped[list[Any]]
    created_at: Mapped[datetime]


class LeadRow(Base):
    """One accepted lead; never changed, its texts are a stranger's."""

    __tablename__ = "lead"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID]
    contact_id: Mapped[UUID]
    inbound_event_id: Mapped[UUID]
    dedupe_key: Mapped[str]
    provider: Mapped[str | None]
    customer_name: Mapped[str]
    channel: Mapped[str | None]
    comments: Mapped[str]
    vehicles: Mapped[list[Any]]
    details: Mapped[dict[str, Any]]
    flags: Mapped[list[Any]]
    requested_at: Mapped[datetime]
    received_at: Mapped[datetime]


class VaultRow(Base):
    """One credit value, sealed under the organization's key."""

    __tablename__ = "vault"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    lead_id: Mapped[UUID]
    kind: Mapped[str]
    field: Mapped[str]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class InventoryVehicleRow(Base):
    """One vehicle of a dealership's feed; the price is the total price, `listed_at` when it first came."""

    __tablename__ = "inventory_vehicle"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID] = mapped_column(primary_key=True)
    stock_number: Mapped[str] = mapped_column(primary_key=True)
    vin: Mapped[str | None]
    condition: Mapped[str | None]
    status: Mapped[str]
    year: Mapped[int | None]
    make: Mapped[str]
    vehicle_model: Mapped[str]
    trim: Mapped[str | None]
    price_nusd: Mapped[int | None]
    odometer: Mapped[int | None]
    listed_at: Mapped[datetime]
    fed_at: Mapped[datetime]


class InventoryAbsenceRow(Base):
    """Vehicles of a dealership that its last whole feed did not name, while a person has to look at them."""

    __tablename__ = "inventory_absence"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID] = mapped_column(primary_key=True)
    listed: Mapped[int]
    gone: Mapped[list[Any]]
    fed_at: Mapped[datetime]


class OutboxHeadRow(Base):
    """The last position that an organization's outbox gave away."""

    __tablename__ = "outbox_head"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int]


class LiveTicketRow(Base):
    """A ticket for one live connection, known by its digest and gone once it is used."""

    __tablename__ = "live_ticket"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    origin: Mapped[str | None]
    expires_at: Mapped[datetime]
