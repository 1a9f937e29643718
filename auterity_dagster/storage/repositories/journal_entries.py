"""How each entry of the journal becomes rows, with its announcement beside it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.execution import (
    CancelRequested,
    Claimed,
    ExecutionState,
    Failed,
    Finished,
    Parked,
    Released,
    Status,
    StepAnswered,
    StepError,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepStatus,
    StepSucceeded,
)
from auterity_dagster.automatrix.ports import (
    ApprovalExpired,
    ApprovalOpened,
    EffectResolved,
    Entry,
    Snapshot,
    TaskAssigned,
)
from auterity_dagster.storage.repositories import effects
from auterity_dagster.storage.repositories.outbox import APPROVALS, EXECUTIONS, announcement, execution_topic
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, StepResultRow, TaskRow

NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""What the specification calls `infinity`: psycopg cannot read PostgreSQL's own."""


def begin_attempt(session: Session, snapshot: Snapshot, started: StepStarted, now: datetime) -> None:
    """Write that an attempt begins, or that one more worker begins it."""
    new = insert(StepResultRow).values(
        organization_id=snapshot.claim.organization_id,
        execution_id=snapshot.claim.execution_id,
        path=started.path,
        attempt=started.attempt,
        kind=snapshot.workflow.steps[started.path].step.kind,
        state=StepStatus.RUNNING,
        starts=1,
        fence=snapshot.claim.fence,
        input_digest=started.input_digest,
        started_at=now,
    )
    session.execute(
        new.on_conflict_do_update(
            index_elements=["organization_id", "execution_id", "path", "attempt"],
            set_={"starts": StepResultRow.starts + 1, "fence": snapshot.claim.fence},
        )
    )
    _announce_step(session, snapshot, started.path, StepStatus.RUNNING, {"attempt": started.attempt}, now)


def record(session: Session, snapshot: Snapshot, entry: Entry, *, after: ExecutionState, now: datetime) -> None:
    """Write one entry; `after` is the state with every entry of the write applied."""
    match entry:
        case StepStarted():
            begin_attempt(session, snapshot, entry, now)
        case StepSkipped():
            _skip(session, snapshot, entry, now)
        case StepSucceeded():
            _end_attempt(session, snapshot, entry.path, after, now, state=StepStatus.SUCCEEDED, **_result(entry))
        case StepFailed():
            _end_attempt(session, snapshot, entry.path, after, now, state=StepStatus.FAILED, error=_error(entry.error))
        case StepRetryScheduled():
            values = {"state": StepStatus.FAILED, "error": _error(entry.error), "retry_at": entry.retry_at}
            _end_attempt(session, snapshot, entry.path, after, now, **values)
        case StepParked():
            _update_attempt(session, snapshot, entry.path, after, {"state": StepStatus.WAITING})
            _announce_step(session, snapshot, entry.path, StepStatus.WAITING, {}, now)
        case ApprovalOpened():
            _open_approval(session, snapshot, entry, now)
        case ApprovalExpired():
            _close_approvals(session, snapshot, "expired", now, ApprovalRow.path == entry.path)
        case TaskAssigned():
            _assign(session, snapshot, entry, now)
        case EffectResolved():
            effects.resolve(session, snapshot.claim.organization_id, entry, now)
        case Parked() | Released():
            _let_go(session, snapshot, entry, now)
        case Finished() | Failed() | CancelRequested():
            _end(session, snapshot, after, now)
        case Claimed() | StepAnswered():
            raise AssertionError(f"{type(entry).__name__} is written by the claim and by the decision")


def _result(entry: StepSucceeded) -> dict[str, Any]:
    return {
        "output": dict(entry.output),
        "deployment": entry.deployment,
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "cost_nusd": entry.cost_nusd,
    }


def _error(error: StepError | None) -> dict[str, Any] | None:
    return None if error is None else {"code": error.code, "message": error.message}


def _skip(session: Session, snapshot: Snapshot, entry: StepSkipped, now: datetime) -> None:
    session.execute(
        insert(StepResultRow).values(
            organization_id=snapshot.claim.organization_id,
            execution_id=snapshot.claim.execution_id,
            path=entry.path,
            attempt=0,
            kind=snapshot.workflow.steps[entry.path].step.kind,
            state=StepStatus.SKIPPED,
            starts=0,
            fence=snapshot.claim.fence,
            started_at=now,
            finished_at=now,
        )
    )
    _announce_step(session, snapshot, entry.path, StepStatus.SKIPPED, {}, now)


def _end_attempt(
    session: Session, snapshot: Snapshot, path: str, after: ExecutionState, now: datetime, **values: Any
) -> None:
    _update_attempt(session, snapshot, path, after, {**values, "finished_at": now})
    shown = {key: values[key] for key in ("error", "cost_nusd", "deployment") if values.get(key) is not None}
    _announce_step(session, snapshot, path, values["state"], shown, now)


def _update_attempt(
    session: Session, snapshot: Snapshot, path: str, after: ExecutionState, values: Mapping[str, Any]
) -> None:
    session.execute(
        update(StepResultRow)
        .where(
            StepResultRow.organization_id == snapshot.claim.organization_id,
            StepResultRow.execution_id == snapshot.claim.execution_id,
            StepResultRow.path == path,
            StepResultRow.attempt == after.steps[path].attempt,
        )
        .values(**values)
    )


def _open_approval(session: Session, snapshot: Snapshot, entry: ApprovalOpened, now: datetime) -> None:
    approval_id = session.scalar(
        insert(ApprovalRow)
        .values(
            organization_id=snapshot.claim.organization_id,
            id=uuid4(),
            dealership_id=snapshot.dealership_id,
            execution_id=snapshot.claim.execution_id,
            path=entry.path,
            role=entry.form.role,
            title=entry.form.title,
            form={"show": dict(entry.form.show), "fields": dict(entry.form.fields)},
            state="open",
            expires_at=entry.form.expires_at,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(ApprovalRow.id)
    )
    if approval_id is not None:
        payload = {"approval_id": str(approval_id), "role": entry.form.role, "title": entry.form.title}
        _announce(session, snapshot, APPROVALS, "approval.opened", payload, now)


def _close_approvals(
    session: Session, snapshot: Snapshot, state: str, now: datetime, which: ColumnElement[bool] | None = None
) -> None:
    own = and_(
        ApprovalRow.organization_id == snapshot.claim.organization_id,
        ApprovalRow.execution_id == snapshot.claim.execution_id,
        ApprovalRow.state == "open",
    )
    closed = session.scalars(
        update(ApprovalRow)
        .where(own if which is None else and_(own, which))
        .values(state=state, decided_at=now)
        .returning(ApprovalRow.id)
    ).all()
    for approval_id in closed:
        _announce(session, snapshot, APPROVALS, f"approval.{state}", {"approval_id": str(approval_id)}, now)


def _assign(session: Session, snapshot: Snapshot, entry: TaskAssigned, now: datetime) -> None:
    session.execute(
        insert(TaskRow)
        .values(
            organization_id=snapshot.claim.organization_id,
            id=uuid4(),
            dealership_id=snapshot.dealership_id,
            execution_id=snapshot.claim.execution_id,
            path=entry.path,
            role=entry.role,
            title=entry.title,
            state="open",
            due_at=entry.due_at,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )


def _let_go(session: Session, snapshot: Snapshot, entry: Parked | Released, now: datetime) -> None:
    """Park or release; a decision or a cancellation that came while the worker held the row keeps it queued."""
    came = session.scalar(
        select(
            exists().where(
                ApprovalRow.organization_id == snapshot.claim.organization_id,
                ApprovalRow.execution_id == snapshot.claim.execution_id,
                ApprovalRow.state.in_(("approved", "rejected")),
                StepResultRow.organization_id == ApprovalRow.organization_id,
                StepResultRow.execution_id == ApprovalRow.execution_id,
                StepResultRow.path == ApprovalRow.path,
                StepResultRow.state == StepStatus.WAITING,
            )
            | exists().where(
                ExecutionRow.organization_id == snapshot.claim.organization_id,
                ExecutionRow.id == snapshot.claim.execution_id,
                ExecutionRow.is_cancel_requested,
            )
        )
    )
    is_parked = isinstance(entry, Parked) and not came
    status = Status.WAITING if is_parked else Status.QUEUED
    _move(session, snapshot, {"state": status, "ready_at": now if came else entry.until}, now)


def _end(session: Session, snapshot: Snapshot, after: ExecutionState, now: datetime) -> None:
    session.execute(
        update(StepResultRow)
        .where(
            StepResultRow.organization_id == snapshot.claim.organization_id,
            StepResultRow.execution_id == snapshot.claim.execution_id,
            StepResultRow.state.in_((StepStatus.RUNNING, StepStatus.WAITING)),
        )
        .values(state=StepStatus.CANCELLED, finished_at=now)
    )
    _close_approvals(session, snapshot, "cancelled", now)
    values = {"state": after.status, "ready_at": NEVER, "finished_at": now, "error": _error(after.error)}
    _move(session, snapshot, values, now)


def _move(session: Session, snapshot: Snapshot, values: Mapping[str, Any], now: datetime) -> None:
    session.execute(
        update(ExecutionRow)
        .where(
            ExecutionRow.organization_id == snapshot.claim.organization_id,
            ExecutionRow.id == snapshot.claim.execution_id,
            ExecutionRow.fence == snapshot.claim.fence,
        )
        .values(**values)
    )
    payload = {"state": values["state"], "workflow": snapshot.workflow.definition.key}
    for topic in (EXECUTIONS, execution_topic(snapshot.claim.execution_id)):
        _announce(session, snapshot, topic, "execution.moved", payload, now)


def _announce_step(
    session: Session, snapshot: Snapshot, path: str, state: StepStatus, more: Mapping[str, Any], now: datetime
) -> None:
    topic = execution_topic(snapshot.claim.execution_id)
    _announce(session, snapshot, topic, "execution.step", {"path": path, "state": state, **more}, now)


def _announce(
    session: Session, snapshot: Snapshot, topic: str, kind: str, payload: Mapping[str, Any], now: datetime
) -> None:
    shown = {
        "execution_id": str(snapshot.claim.execution_id),
        "dealership_id": str(snapshot.dealership_id),
        "at": now.isoformat(),
        **payload,
    }
    session.execute(announcement(snapshot.claim.organization_id, topic=topic, kind=kind, payload=shown, now=now))
