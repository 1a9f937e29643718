"""Start executions: for an event of the outside, for subjects that a person or a schedule names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.expression import ExpressionFailed
from auterity_dagster.automatrix.trigger import matches, start
from auterity_dagster.storage.repositories.admission import Entering, enter
from auterity_dagster.storage.repositories.compiled_versions import compiled_version
from auterity_dagster.storage.repositories.outbox import EXECUTIONS, announcement
from auterity_dagster.storage.repositories.slots import NEVER
from auterity_dagster.storage.tables.workflows import (
    ExecutionRow,
    WorkflowRow,
    WorkflowTriggerRow,
    WorkflowVersionRow,
)

Lane = Literal["interactive", "batch"]


@dataclass(frozen=True, slots=True)
class ActiveWorkflow:
    """A workflow with the version that new executions get."""

    workflow_id: UUID
    version_id: UUID
    job: str
    settings: Mapping[str, Any]
    compiled: CompiledWorkflow


@dataclass(frozen=True, slots=True)
class Parent:
    """The execution and the step that started another, and whether it waits for its end.

    `root_id` is the one that the step had started before it was replayed, whose keys the new one keeps.
    """

    execution_id: UUID
    path: str
    is_awaited: bool
    root_id: UUID | None = None


def start_executions(session: Session, event: Event) -> tuple[UUID, ...]:
    """Insert an execution of every published workflow that wants the event, in the caller's transaction.

    A repeated event starts nothing: an execution's key is unique in its workflow.
    """
    started: list[UUID] = []
    for active in _wanting(session, event):
        try:
            execution_id = start_execution(session, active, event, lane="interactive", ready_at=event.time)
        except ExpressionFailed:
            # The version was published for events of another shape; the lead itself must not be lost for it.
            continue
        if execution_id is not None:
            started.append(execution_id)
    return tuple(started)


def start_execution(
    session: Session,
    active: ActiveWorkflow,
    event: Event,
    *,
    lane: Lane,
    ready_at: datetime,
    parent: Parent | None = None,
) -> UUID | None:
    """Insert one execution; None if there is one with its key, or its workflow's concurrency lets it not run.

    Raises `ExpressionFailed`.
    The key of one with a parent is the parent's step, whatever the workflow says.
    """
    given = start(active.compiled, event, settings=active.settings, is_called=parent is not None)
    execution_id = session.scalar(
        insert(ExecutionRow)
        .values(
            organization_id=event.organization_id,
            id=uuid4(),
            dealership_id=event.dealership_id,
            workflow_id=active.workflow_id,
            version_id=active.version_id,
            job=active.job,
            lane=lane,
            subject=event.subject,
            idempotency_key=given.idempotency_key,
            state="queued",
            ready_at=ready_at if given.concurrency_key is None else NEVER,
            blocked_on=given.concurrency_key,
            fence=0,
            event=dict(given.event),
            variables=dict(given.variables),
            is_cancel_requested=False,
            received_at=event.time,
            deadline_at=ready_at + given.timeout,
            created_at=ready_at,
            depth=event.depth,
            parent_id=parent and parent.execution_id,
            parent_path=parent and parent.path,
            root_id=parent and parent.root_id,
            is_awaited=parent is not None and parent.is_awaited,
        )
        .on_conflict_do_nothing()
        .returning(ExecutionRow.id)
    )
    if execution_id is None:
        return None
    policy = active.compiled.definition.concurrency
    if policy is not None and given.concurrency_key is not None:
        deadline_at = ready_at + given.timeout
        entering = Entering(event.organization_id, execution_id, given.concurrency_key, deadline_at)
        if not enter(session, entering, policy, event, ready_at):
            return None
    payload = {
        "execution_id": str(execution_id),
        "dealership_id": str(event.dealership_id),
        "workflow": active.compiled.definition.key,
        "subject": event.subject,
        "state": "queued",
    }
    session.execute(
        announcement(event.organization_id, topic=EXECUTIONS, kind="execution.queued", payload=payload, now=ready_at)
    )
    return execution_id


def active_workflow(session: Session, key: str) -> ActiveWorkflow | None:
    """Return the organization's active workflow of this key."""
    found = _active(session, WorkflowRow.key == key)
    return found[0] if found else None


def _wanting(session: Session, event: Event) -> Sequence[ActiveWorkflow]:
    triggered = select(WorkflowTriggerRow.workflow_id).where(
        WorkflowTriggerRow.type == "event", WorkflowTriggerRow.event_type == event.type
    )
    return [one for one in _active(session, WorkflowRow.id.in_(triggered)) if matches(one.compiled, event)]


def _active(session: Session, which: Any) -> Sequence[ActiveWorkflow]:
    rows = session.execute(
        select(WorkflowRow, WorkflowVersionRow)
        .join(
            WorkflowVersionRow,
            (WorkflowVersionRow.organization_id == WorkflowRow.organization_id)
            & (WorkflowVersionRow.id == WorkflowRow.active_version_id),
        )
        .where(WorkflowRow.state == "active", which)
        .order_by(WorkflowRow.key)
    )
    return [
        ActiveWorkflow(
            workflow_id=workflow.id,
            version_id=version.id,
            job=version.job,
            settings=workflow.variables,
            compiled=compiled_version(version.definition),
        )
        for workflow, version in rows
    ]
