"""The memo of training: a stage that finished is found again by the digest of all that went into it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.storage.tables.specialisation import TrainingStageRow


def finished_stage(session: Session, stage_key: str) -> TrainingStageRow | None:
    """Return the stage with this key if it finished, else None."""
    return session.scalar(
        select(TrainingStageRow).where(TrainingStageRow.stage_key == stage_key, TrainingStageRow.state == "finished")
    )


def start_stage(session: Session, *, organization_id: UUID, stage_key: str, stage: str) -> int:
    """Note that a stage runs; return how often it was started, this time included."""
    statement = insert(TrainingStageRow).values(
        organization_id=organization_id,
        stage_key=stage_key,
        stage=stage,
        state="running",
        metrics={},
        attempts=1,
        cost_nusd=0,
    )
    return session.execute(
        statement.on_conflict_do_update(
            index_elements=[TrainingStageRow.organization_id, TrainingStageRow.stage_key],
            set_={"state": "running", "attempts": TrainingStageRow.attempts + 1},
        ).returning(TrainingStageRow.attempts)
    ).scalar_one()


def attach_mlflow_run(session: Session, *, stage_key: str, mlflow_run_id: str) -> None:
    """Remember which MLflow run shows this stage, so that every attempt writes to the same one."""
    session.execute(
        update(TrainingStageRow).where(TrainingStageRow.stage_key == stage_key).values(mlflow_run_id=mlflow_run_id)
    )


def mlflow_run_of(session: Session, stage_key: str) -> str | None:
    """Return the MLflow run of an earlier attempt, or None."""
    return session.scalar(select(TrainingStageRow.mlflow_run_id).where(TrainingStageRow.stage_key == stage_key))


def finish_stage(session: Session, *, stage_key: str, artefact_digest: str, metrics: Mapping[str, Any]) -> int:
    """Note the artefact of a finished stage; return what all its attempts cost, in nano-dollars."""
    return session.execute(
        update(TrainingStageRow)
        .where(TrainingStageRow.stage_key == stage_key)
        .values(state="finished", artefact_digest=artefact_digest, metrics=dict(metrics), finished_at=func.now())
        .returning(TrainingStageRow.cost_nusd)
    ).scalar_one()


def add_cost(session: Session, *, stage_key: str, cost_nusd: int) -> None:
    """Add what an attempt cost."""
    session.execute(
        update(TrainingStageRow)
        .where(TrainingStageRow.stage_key == stage_key)
        .values(cost_nusd=TrainingStageRow.cost_nusd + cost_nusd)
    )


def end_stage(session: Session, *, stage_key: str, state: str) -> None:
    """Note that an attempt ended without an artefact: `failed`, or `paused` with a checkpoint to go on from."""
    session.execute(update(TrainingStageRow).where(TrainingStageRow.stage_key == stage_key).values(state=state))
