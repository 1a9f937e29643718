"""Tables of training data: who agreed to what, and the versions of each scope's dataset."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class ConsentRow(Base):
    """An agreement that a dealership's (None: every dealership's) conversations may train the organization's models.

    What was agreed to never changes; it can be revoked once.
    """

    __tablename__ = "training_consent"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID | None]
    text_version: Mapped[str]
    given_by: Mapped[UUID]
    given_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_by: Mapped[UUID | None]
    revoked_at: Mapped[datetime | None]


class DatasetVersionRow(Base):
    """One version of a scope's dataset: its rows in the object store, its card, the consents it rests on."""

    __tablename__ = "dataset_version"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    dataset_digest: Mapped[str]
    rows_digest: Mapped[str]
    rows: Mapped[int]
    card: Mapped[dict[str, Any]]
    consent_ids: Mapped[list[Any]]
    drift: Mapped[dict[str, Any] | None]
    report_digest: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
