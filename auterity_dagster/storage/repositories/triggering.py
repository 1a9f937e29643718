"""Start executions: for an event of the outside, for subjects that a person or a schedule names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.expression import CelEngine, ExpressionFailed
from auterity_dagster.automatrix.publication import CompiledWorkflow, compile_document
from auterity_dagster.automatrix.trigger import matches, start
from auterity_dagster.storage.repositories.outbox import EXECUTIONS, announcement
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


async def start_executions(session: AsyncSession, event: Event) -> tuple[UUID, ...]:
    """Insert an execution of every published workflow that wants the event, in the caller's transaction.

    A repeated event starts nothing: an execution's key is unique in its workflow.
    """
    started: list[UUID] = []
    for active in await _wanting(session, event):
        try:
            execution_id = await start_execution(session, active, event, lane="interactive", ready_at=event.time)
        except ExpressionFailed:
            # The version was published for events of another shape; the lead itself must not be lost for it.
            continue
        if execution_id is not None:
            started.append(execution_id)
    return tuple(started)


async def start_execution(
    session: AsyncSession, active: ActiveWorkflow, event: Event, *, lane: Lane, ready_at: datetime
) -> UUID | None:
    """Insert one execution; None if there is one with its key. Raises `ExpressionFailed`."""
    given = start(active.compiled, event, settings=active.settings)
    execution_id = await session.scalar(
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
            ready_at=ready_at,
            fence=0,
            event=dict(given.event),
            variables=dict(given.variables),
            is_cancel_requested=False,
            received_at=event.time,
            deadline_at=ready_at + given.timeout,
            created_at=ready_at,
        )
        .on_conflict_do_nothing()
        .returning(ExecutionRow.id)
    )
    if execution_id is not None:
        payload = {
            "execution_id": str(execution_id),
            "dealership_id": str(event.dealership_id),
            "workflow": active.compiled.definition.key,
            "subject": event.subject,
            "state": "queued",
        }
        queued = announcement(
            event.organization_id, topic=EXECUTIONS, kind="execution.queued", payload=payload, now=ready_at
        )
        await session.execute(queued)
    return execution_id


async def active_workflow(session: AsyncSession, key: str) -> ActiveWorkflow | None:
    """Return the organization's active workflow of this key."""
    found = await _active(session, WorkflowRow.key == key)
    return found[0] if found else None


async def _wanting(session: AsyncSession, event: Event) -> Sequence[ActiveWorkflow]:
    triggered = select(WorkflowTriggerRow.workflow_id).where(
        WorkflowTriggerRow.type == "event", WorkflowTriggerRow.event_type == event.type
    )
    return [one for one in await _active(session, WorkflowRow.id.in_(triggered)) if matches(one.compiled, event)]


async def _active(session: AsyncSession, which: Any) -> Sequence[ActiveWorkflow]:
    rows = await session.execute(
        select(WorkflowRow, WorkflowVersionRow)
        .join(
            WorkflowVersionRow,
            (WorkflowVersionRow.organization_id == WorkflowRow.organization_id)
            & (WorkflowVersionRow.id == WorkflowRow.active_version_id),
        )
        .where(WorkflowRow.state == "active", which)
        .order_by(WorkflowRow.key)
    )
    engine = CelEngine()
    return [
        ActiveWorkflow(
            workflow_id=workflow.id,
            version_id=version.id,
            job=version.job,
            settings=workflow.variables,
            compiled=compile_document(version.definition, engine),
        )
        for workflow, version in rows
    ]
