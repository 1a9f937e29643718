"""Tables of what routing learns and reports: labels, outcome sets, predictors, usage by day, recommendations."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class FeedbackRow(Base):
    """One label of one answer; a second of the same kind is never added."""

    __tablename__ = "feedback"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[UUID]
    task: Mapped[str]
    artefact_digest: Mapped[str]
    deployment_id: Mapped[str]
    score: Mapped[float]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OutcomeSetRow(Base):
    """Measured outcomes of several models on the same prompts, as JSON lines in the object store."""

    __tablename__ = "outcome_set"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    outcomes: Mapped[int]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RoutingPredictorRow(Base):
    """Which predictor an alias names; who loads it has to ask for its gate verdict."""

    __tablename__ = "routing_predictor"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    artefact_digest: Mapped[str]
    verdict_digest: Mapped[str]
    registered_version: Mapped[str | None]
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageDayRow(Base):
    """One day's attempts of one task, deployment, dealership and purpose.

    `latencies` and `first_tokens` count attempts by bucket of `relaycore.latency_histogram`, `outcomes` by outcome.
    """

    __tablename__ = "usage_day"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    task: Mapped[str] = mapped_column(primary_key=True)
    deployment_id: Mapped[str] = mapped_column(primary_key=True)
    dealership_id: Mapped[UUID | None] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    attempts: Mapped[int]
    ok: Mapped[int]
    unreported: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost_nusd: Mapped[int]
    latencies: Mapped[dict[str, Any]]
    first_tokens: Mapped[dict[str, Any]]
    outcomes: Mapped[dict[str, Any]]
    rolled_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RecommendationRow(Base):
    """Something that would save money, with its evidence; it is kept and compared with what happened."""

    __tablename__ = "recommendation"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    task: Mapped[str]
    from_deployment: Mapped[str]
    to_deployment: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    patch: Mapped[dict[str, Any]]
    saving_nusd: Mapped[int]
    saving_low_nusd: Mapped[int]
    saving_high_nusd: Mapped[int]
    quality_change_low: Mapped[float]
    state: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    decided_by: Mapped[UUID | None]
    applied_at: Mapped[datetime | None]
    rolled_back_at: Mapped[datetime | None]
    realised: Mapped[dict[str, Any] | None]
