"""Tables of model specialisation: training stages, verdicts, releases, what each scope serves and why, retraining."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from auterity_dagster.storage.tables.base import Base


class TrainingStageRow(Base):
    """One stage of training by the digest of all that goes into it: finished once, it is never computed again."""

    __tablename__ = "training_stage"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    stage_key: Mapped[str] = mapped_column(Text, primary_key=True)
    stage: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    artefact_digest: Mapped[str | None] = mapped_column(Text)
    mlflow_run_id: Mapped[str | None] = mapped_column(Text)
    metrics: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    cost_nusd: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class GateVerdictRow(Base):
    """What the gate decided about one artefact's bytes, with the digests of the evidence it looked at."""

    __tablename__ = "gate_verdict"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    verdict_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    artefact_digest: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    profile: Mapped[str] = mapped_column(Text)
    champion_digest: Mapped[str] = mapped_column(Text)
    report_digest: Mapped[str] = mapped_column(Text)
    dataset_digest: Mapped[str | None] = mapped_column(Text)
    reasons: Mapped[list[Any]]
    decided_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class ReleasedArtefactRow(Base):
    """An artefact that passed the gate, with all that routing must know to send requests to it."""

    __tablename__ = "released_artefact"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    artefact_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    verdict_digest: Mapped[str] = mapped_column(Text)
    may_route: Mapped[str] = mapped_column(Text)
    registered_name: Mapped[str] = mapped_column(Text)
    registered_version: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    price_key: Mapped[str] = mapped_column(Text)
    context_tokens: Mapped[int]
    output_tokens: Mapped[int]
    tasks: Mapped[list[Any]]
    families: Mapped[list[Any]]
    released_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ServingStateRow(Base):
    """The artefact that a scope serves (None: the base route) and its challenger; changed by one guarded update only.

    A challenger at 0 % answers in the shadow.
    """

    __tablename__ = "serving_state"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    current_digest: Mapped[str | None] = mapped_column(Text)
    previous_digest: Mapped[str | None] = mapped_column(Text)
    sequence: Mapped[int]
    pinned_by: Mapped[str | None] = mapped_column(Text)
    challenger_digest: Mapped[str | None] = mapped_column(Text)
    challenger_percent: Mapped[int]
    challenger_since: Mapped[datetime | None]
    projected_sequence: Mapped[int]


class SwitchLedgerRow(Base):
    """One change of what a scope serves; rows are added and never changed."""

    __tablename__ = "switch_ledger"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    from_digest: Mapped[str | None] = mapped_column(Text)
    to_digest: Mapped[str | None] = mapped_column(Text)
    weight_percent: Mapped[int]
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    evidence_ids: Mapped[list[Any]]
    actor: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str] = mapped_column(Text)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PairwiseRow(Base):
    """Which of two models answered one request better: the champion or its challenger, which answered in the shadow."""

    __tablename__ = "answer_comparison"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    champion_digest: Mapped[str | None]
    challenger_digest: Mapped[str]
    winner: Mapped[str]
    decided_by: Mapped[str]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PromotionRow(Base):
    """A promotion to all of the traffic that one person asked for and another has to agree to."""

    __tablename__ = "promotion_request"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str]
    from_digest: Mapped[str | None]
    to_digest: Mapped[str]
    reason: Mapped[str]
    state: Mapped[str]
    requested_by: Mapped[UUID]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_by: Mapped[UUID | None]
    decided_at: Mapped[datetime | None]


class RetrainRequestRow(Base):
    """A reason to train a scope again; at most one is open for a scope."""

    __tablename__ = "retrain_request"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str]
    reason: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    budget_nusd: Mapped[int]
    recipe: Mapped[str]
    configuration: Mapped[dict[str, Any]]
    state: Mapped[str]
    opened_by: Mapped[str]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    run_id: Mapped[str | None]
    closed_at: Mapped[datetime | None]
