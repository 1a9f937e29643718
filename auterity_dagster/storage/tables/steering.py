"""Tables of steering: versions of policies, own prices, what is set for deployments, what decisions were made from."""

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


class DeploymentOverrideRow(Base):
    """What people set for one deployment: off, or a smaller share. Who set what when, the audit log keeps."""

    __tablename__ = "deployment_override"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(Text, primary_key=True)
    is_off: Mapped[bool]
    weight_percent: Mapped[int | None]
    note: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    changed_by: Mapped[UUID]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DecisionContextRow(Base):
    """A policy's text or a catalogue's document, under its digest: what stored decisions were made from."""

    __tablename__ = "decision_context"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    content: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ShadowPairRow(Base):
    """A request that was answered and its copy that went elsewhere: how both ended, and digests of what they said."""

    __tablename__ = "shadow_pair"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    shadow_request_id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[UUID]
    rule: Mapped[str] = mapped_column(Text)
    task: Mapped[str | None] = mapped_column(Text)
    served_deployment_id: Mapped[str] = mapped_column(Text)
    served_artefact_digest: Mapped[str] = mapped_column(Text)
    served_answer_digest: Mapped[bytes | None]
    served_latency_ms: Mapped[int]
    served_cost_nusd: Mapped[int | None]
    shadow_deployment_id: Mapped[str] = mapped_column(Text)
    shadow_artefact_digest: Mapped[str] = mapped_column(Text)
    shadow_outcome: Mapped[str] = mapped_column(Text)
    shadow_answer_digest: Mapped[bytes | None]
    shadow_latency_ms: Mapped[int]
    shadow_cost_nusd: Mapped[int | None]
    happened_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ShadowTextRow(Base):
    """What was asked and what both said in a pair that waits for its comparison; sealed, and deleted with it."""

    __tablename__ = "shadow_text"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    shadow_request_id: Mapped[UUID] = mapped_column(primary_key=True)
    shadow_artefact_digest: Mapped[str] = mapped_column(Text)
    sealed: Mapped[bytes]
    kept_at: Mapped[datetime] = mapped_column(server_default=func.now())
