"""Tables of model specialisation: finished training stages, gate verdicts, what each scope serves and why."""

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
    reasons: Mapped[list[Any]]
    decided_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class ServingStateRow(Base):
    """The artefact that a scope serves; it changes by one guarded update only."""

    __tablename__ = "serving_state"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    current_digest: Mapped[str] = mapped_column(Text)
    previous_digest: Mapped[str | None] = mapped_column(Text)
    sequence: Mapped[int]
    pinned_by: Mapped[str | None] = mapped_column(Text)


class SwitchLedgerRow(Base):
    """One change of what a scope serves; rows are added and never changed."""

    __tablename__ = "switch_ledger"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(Text, primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    from_digest: Mapped[str | None] = mapped_column(Text)
    to_digest: Mapped[str] = mapped_column(Text)
    weight_percent: Mapped[int]
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    evidence_ids: Mapped[list[Any]]
    actor: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str] = mapped_column(Text)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
