"""Tables of routing: what an organization serves, how good it was, what the gateway answered."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class DeploymentRow(Base):
    """A specialised model that the model server answers for; `alias` tells the champion from its challenger."""

    __tablename__ = "deployment"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    alias: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    artefact_digest: Mapped[str] = mapped_column(Text)
    gate_verdict_digest: Mapped[str] = mapped_column(Text)
    price_key: Mapped[str] = mapped_column(Text)
    weight_percent: Mapped[int]
    context_tokens: Mapped[int]
    output_tokens: Mapped[int]
    tasks: Mapped[list[Any]]
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RouteQualityRow(Base):
    """Evidence from one source of how good an artefact is at a task.

    A new evaluation replaces the old one; labels are added to a running sum, `items` being its weight at `recorded_at`.
    """

    __tablename__ = "route_quality"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    task: Mapped[str] = mapped_column(Text, primary_key=True)
    artefact_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    items: Mapped[float]
    mean_score: Mapped[float]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RequestRow(Base):
    """One request that the gateway answered or refused, with the decision that chose its deployment."""

    __tablename__ = "request"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID | None]
    key_id: Mapped[UUID]
    purpose: Mapped[str] = mapped_column(Text)
    task: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    is_stream: Mapped[bool]
    policy_digest: Mapped[str] = mapped_column(Text)
    rule: Mapped[str | None] = mapped_column(Text)
    decision: Mapped[dict[str, Any]]
    decided_on: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    deployment_id: Mapped[str | None] = mapped_column(Text)
    artefact_digest: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[list[Any]]
    outcome: Mapped[str] = mapped_column(Text)
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_nusd: Mapped[int]
    latency_ms: Mapped[int]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    propensity: Mapped[float | None]
    predicted: Mapped[dict[str, Any] | None]


class RateLimitRow(Base):
    """What an organization, one of its dealerships or one of its keys may use a minute."""

    __tablename__ = "rate_limit"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
