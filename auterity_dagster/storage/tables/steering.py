"""Tables of steering: versions of policies, an organization's own prices, what decisions were made from."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class SteeringPolicyRow(Base):
    """One version of an organization's policy. Its text never changes; `reports` are what was found out about it."""

    __tablename__ = "steering_policy"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    yaml: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    reports: Mapped[list[Any]]
    created_by: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    activated_by: Mapped[UUID | None]
    activated_at: Mapped[datetime | None]


class PriceRow(Base):
    """An organization's own dated price: it counts once it is approved, before the price list's of the same day."""

    __tablename__ = "price"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text)
    in_force_from: Mapped[date]
    entry: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(Text)
    change_percent: Mapped[int | None]
    imported_by: Mapped[UUID]
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now())
    approved_by: Mapped[UUID | None]
    approved_at: Mapped[datetime | None]


class DecisionContextRow(Base):
    """A policy's text or a catalogue's document, under its digest: what stored decisions were made from."""

    __tablename__ = "decision_context"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    content: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
