"""How each entry of the journal becomes rows, with its announcement beside it."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.dialects.postgresql import insert

from auterity_dagster.automatrix.execution import (
    CancelRequested,
    Claimed,
    Failed,
    FailureBegan,
    Finished,
    LoopEnded,
    Parked,
    Released,
    Status,
    StepAnswered,
    StepError,
    StepExpanded,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepStatus,
    StepSucceeded,
)
from auterity_dagster.automatrix.ports import (
    AnsweredMeanwhile,
    ApprovalExpired,
    ApprovalOpened,
    EffectResolved,
    Entry,
    EventEmitted,
    TaskAssigned,
    WaitElapsed,
    WaitOpened,
)
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.storage.repositories import effects, waits
from auterity_dagster.storage.repositories.cancelling import after_end, close_steps, end_children
from auterity_dagster.storage.repositories.events import deliver_blocking
from auterity_dagster.storage.repositories.journal_write import JournalWrite
from auterity_dagster.storage.repositories.outbox import APPROVALS, EXECUTIONS, execution_topic
from auterity_dagster.storage.repositories.slots import NEVER
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, StepResultRow, TaskRow, WaitRow


def begin_attempt(write: JournalWrite, started: StepStarted) -> None:
    """Write and announce that an attempt begins, or that one more worker begins it."""
    write.begin(started)
    write.announce_step(started.path, StepStatus.RUNNING, {"attempt": started.attempt})


def record(write: JournalWrite, entry: Entry) -> None:
    """Write one entry, with those before it."""
    match entry:
        case StepStarted():
            # Its result is written with it: that it began is no news by then.
            write.begin(entry)
        case StepSkipped():
            write.skip(entry.path)
            write.announce_step(entry.path, StepStatus.SKIPPED, {})
        case StepSucceeded():
            _end_attempt(write, entry.path, state=StepStatus.SUCCEEDED, **_result(entry))
        case StepFailed():
            _end_attempt(write, entry.path, state=StepStatus.FAILED, error=_error(entry.error))
        case StepRetryScheduled():
            values = {"state": StepStatus.FAILED, "error": _error(entry.error), "retry_at": entry.retry_at}
            _end_attempt(write, entry.path, **values)
        case StepParked():
            write.change(entry.path, {"state": StepStatus.WAITING, "expires_at": entry.expires_at})
            write.announce_step(entry.path, StepStatus.WAITING, {})
        case StepExpanded():
            write.change(entry.path, {"state": StepStatus.WAITING, "items": list(entry.items)})
            write.announce_step(entry.path, StepStatus.WAITING, {"items": len(entry.items)})
        case LoopEnded():
            write.change(entry.path, {"items": list(write.after.steps[entry.path].items or ())})
        case EffectResolved():
            effects.resolve(write.session, write.snapshot.claim.organization_id, entry, write.now)
        case EventEmitted():
            deliver_blocking(write.session, entry.event)
        case ApprovalOpened() | ApprovalExpired() | TaskAssigned() | WaitOpened() | WaitElapsed():
            _record_request(write, entry)
        case Parked() | Released() | Finished() | FailureBegan() | Failed() | CancelRequested():
            write.write_steps()
            _record_turn(write, entry)
        case Claimed() | StepAnswered():
            raise AssertionError(f"{type(entry).__name__} is written by the claim and by the decision")


def _record_request(
    write: JournalWrite, entry: ApprovalOpened | ApprovalExpired | TaskAssigned | WaitOpened | WaitElapsed
) -> None:
    """What a step asks of people and of events."""
    match entry:
        case ApprovalOpened():
            _open_approval(write, entry)
        case ApprovalExpired():
            if not _close_approvals(write, "expired", ApprovalRow.path == entry.path):
                raise AnsweredMeanwhile(f"somebody decided {entry.path} first")
        case TaskAssigned():
            _assign(write, entry)
        case WaitOpened():
            waits.arm(write.session, write.snapshot, entry, write.now)
        case WaitElapsed():
            waits.elapse(write.session, write.snapshot, entry, write.now)


def _record_turn(
    write: JournalWrite, entry: Parked | Released | Finished | FailureBegan | Failed | CancelRequested
) -> None:
    """What becomes of the execution itself; the rows of its steps are written."""
    match entry:
        case Parked() | Released():
            _let_go(write, entry)
        case Finished():
            _end(write, entry.outputs)
        case FailureBegan():
            _begin_failure(write, entry)
        case Failed() | CancelRequested():
            _end(write, {})


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


def _end_attempt(write: JournalWrite, path: str, **values: Any) -> None:
    write.change(path, {**values, "finished_at": write.now})
    shown = {key: values[key] for key in ("error", "cost_nusd", "deployment") if values.get(key) is not None}
    write.announce_step(path, values["state"], shown)


def _open_approval(write: JournalWrite, entry: ApprovalOpened) -> None:
    approval_id = write.session.scalar(
        insert(ApprovalRow)
        .values(
            organization_id=write.snapshot.claim.organization_id,
            id=uuid4(),
            dealership_id=write.snapshot.dealership_id,
            execution_id=write.snapshot.claim.execution_id,
            path=entry.path,
            role=entry.form.role,
            title=entry.form.title,
            form={
                "show": dict(entry.form.show),
                "fields": dict(entry.form.fields),
                "other_than": entry.form.other_than,
            },
            state="open",
            expires_at=entry.form.expires_at,
            created_at=write.now,
        )
        .on_conflict_do_nothing()
        .returning(ApprovalRow.id)
    )
    if approval_id is not None:
        payload = {"approval_id": str(approval_id), "role": entry.form.role, "title": entry.form.title}
        write.announce(APPROVALS, "approval.opened", payload)


def _close_approvals(write: JournalWrite, state: str, which: ColumnElement[bool] | None = None) -> int:
    own = and_(
        ApprovalRow.organization_id == write.snapshot.claim.organization_id,
        ApprovalRow.execution_id == write.snapshot.claim.execution_id,
        ApprovalRow.state == "open",
    )
    closed = write.session.scalars(
        update(ApprovalRow)
        .where(own if which is None else and_(own, which))
        .values(state=state, decided_at=write.now)
        .returning(ApprovalRow.id)
    ).all()
    for approval_id in closed:
        write.announce(APPROVALS, f"approval.{state}", {"approval_id": str(approval_id)})
    return len(closed)


def _assign(write: JournalWrite, entry: TaskAssigned) -> None:
    write.session.execute(
        insert(TaskRow)
        .values(
            organization_id=write.snapshot.claim.organization_id,
            id=uuid4(),
            dealership_id=write.snapshot.dealership_id,
            execution_id=write.snapshot.claim.execution_id,
            path=entry.path,
            role=entry.role,
            title=entry.title,
            state="open",
            due_at=entry.due_at,
            created_at=write.now,
        )
        .on_conflict_do_nothing()
    )


def _let_go(write: JournalWrite, entry: Parked | Released) -> None:
    """Park or release; a decision or a cancellation that came while the worker held the row keeps it queued."""
    came = write.session.scalar(
        select(
            exists().where(
                ApprovalRow.organization_id == write.snapshot.claim.organization_id,
                ApprovalRow.execution_id == write.snapshot.claim.execution_id,
                ApprovalRow.state.in_(("approved", "rejected")),
                StepResultRow.organization_id == ApprovalRow.organization_id,
                StepResultRow.execution_id == ApprovalRow.execution_id,
                StepResultRow.path == ApprovalRow.path,
                StepResultRow.state == StepStatus.WAITING,
            )
            | exists().where(
                WaitRow.organization_id == write.snapshot.claim.organization_id,
                WaitRow.execution_id == write.snapshot.claim.execution_id,
                WaitRow.state == "event",
                StepResultRow.organization_id == WaitRow.organization_id,
                StepResultRow.execution_id == WaitRow.execution_id,
                StepResultRow.path == WaitRow.path,
                StepResultRow.state == StepStatus.WAITING,
            )
            | exists().where(
                ExecutionRow.organization_id == write.snapshot.claim.organization_id,
                ExecutionRow.id == write.snapshot.claim.execution_id,
                ExecutionRow.is_cancel_requested,
            )
        )
    )
    is_parked = isinstance(entry, Parked) and not came
    status = Status.WAITING if is_parked else Status.QUEUED
    _move(write, {"state": status, "ready_at": write.now if came else entry.until})


def _end(write: JournalWrite, outputs: Mapping[str, object]) -> None:
    organization_id, own = write.snapshot.claim.organization_id, [write.snapshot.claim.execution_id]
    if any(step.status is StepStatus.CANCELLED and step.attempt for step in write.after.steps.values()):
        # Only a step that was under way has rows that are open.
        _close_approvals(write, "cancelled")
        close_steps(write.session, organization_id, own, write.now)
    result = {"state": write.after.status.value, "outputs": dict(outputs), "error": _error(write.after.error)}
    _move(write, {**result, "ready_at": NEVER, "finished_at": write.now})
    if _has_others(write):
        after_end(write.session, organization_id, own, result=result, now=write.now)


def _has_others(write: JournalWrite) -> bool:
    """True if the end concerns anybody: children, whoever waits for its slot, a parent."""
    workflow = write.snapshot.workflow
    has_children = any(one.step.kind is StepKind.SUB_WORKFLOW for one in workflow.every())
    return has_children or workflow.definition.concurrency is not None or write.snapshot.parent_id is not None


def _begin_failure(write: JournalWrite, entry: FailureBegan) -> None:
    """What was under way ends; the execution goes on with the steps that come before it fails."""
    organization_id, own = write.snapshot.claim.organization_id, [write.snapshot.claim.execution_id]
    _close_approvals(write, "cancelled")
    close_steps(write.session, organization_id, own, write.now)
    end_children(write.session, organization_id, own, write.now)
    write.session.execute(
        update(ExecutionRow)
        .where(ExecutionRow.organization_id == organization_id, ExecutionRow.id == write.snapshot.claim.execution_id)
        .values(error=_error(entry.error))
    )


def _move(write: JournalWrite, values: Mapping[str, Any]) -> None:
    write.session.execute(
        update(ExecutionRow)
        .where(
            ExecutionRow.organization_id == write.snapshot.claim.organization_id,
            ExecutionRow.id == write.snapshot.claim.execution_id,
            ExecutionRow.fence == write.snapshot.claim.fence,
        )
        .values(**values)
    )
    payload = {"state": values["state"], "workflow": write.snapshot.workflow.definition.key}
    for topic in (EXECUTIONS, execution_topic(write.snapshot.claim.execution_id)):
        write.announce(topic, "execution.moved", payload)
