"""Tables of what workflows reach outside, and of what they look up: connections and recalls."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class ConnectionRow(Base):
    """An outside system by the name that workflows use; its secret is sealed and nobody reads it again."""

    __tablename__ = "connection"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    settings: Mapped[dict[str, Any]]
    sealed: Mapped[bytes | None]
    secret_hint: Mapped[str | None]
    is_live: Mapped[bool]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class RecallRow(Base):
    """One campaign for one model year, or one vehicle; every row of an organization is of one day's file."""

    __tablename__ = "recall"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    campaign: Mapped[str]
    make: Mapped[str]
    vehicle_model: Mapped[str]
    make_key: Mapped[str]
    vehicle_model_key: Mapped[str]
    year: Mapped[int]
    vin: Mapped[str | None]
    component: Mapped[str]
    summary: Mapped[str]
    consequence: Mapped[str]
    remedy: Mapped[str]
    reported_on: Mapped[date | None]
    as_of: Mapped[date]
