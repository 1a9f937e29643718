"""Executions as people see them: lists, details with every step, and cancelling."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.execution import FINAL, Status
from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.cancelling import cancel_locked
from auterity_dagster.storage.repositories.claims import lock
from auterity_dagster.storage.tables.workflows import (
    ApprovalRow,
    ExecutionRow,
    SideEffectRow,
    StepResultRow,
    TaskRow,
    WorkflowRow,
    WorkflowVersionRow,
)

PAGE_LIMIT = 500
DRAFTING = "ai_prompt"


@dataclass(frozen=True, slots=True)
class ExecutionSummary:
    """One line of a list; times that did not come yet are None, `cost_nusd` is what models cost so far."""

    row: ExecutionRow
    workflow_key: str
    version_number: int
    first_step_started_at: datetime | None
    draft_finished_at: datetime | None
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class ExecutionDetail:
    """One execution with everything recorded about it."""

    summary: ExecutionSummary
    steps: Sequence[StepResultRow]
    approvals: Sequence[ApprovalRow]
    effects: Sequence[SideEffectRow]
    tasks: Sequence[TaskRow]


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions; None does not filter. `before` continues below the last row of a page."""

    state: str | None = None
    workflow: str | None = None
    subject: str | None = None
    error: str | None = None
    before: tuple[datetime, UUID] | None = None
    limit: int = 100


async def list_executions(
    session: AsyncSession, principal: Principal, wanted: ExecutionFilter
) -> Sequence[ExecutionSummary]:
    """Return executions, newest first."""
    query = _summaries(principal)
    if wanted.state is not None:
        query = query.where(ExecutionRow.state == wanted.state)
    if wanted.workflow is not None:
        query = query.where(WorkflowRow.key == wanted.workflow)
    if wanted.subject is not None:
        query = query.where(ExecutionRow.subject == wanted.subject)
    if wanted.error is not None:
        query = query.where(ExecutionRow.error["code"].astext == wanted.error)
    if wanted.before is not None:
        query = query.where(tuple_(ExecutionRow.created_at, ExecutionRow.id) < wanted.before)
    query = query.order_by(ExecutionRow.created_at.desc(), ExecutionRow.id.desc()).limit(min(wanted.limit, PAGE_LIMIT))
    return [ExecutionSummary(*found) for found in (await session.execute(query))]


async def find(session: AsyncSession, principal: Principal, execution_id: UUID) -> ExecutionDetail:
    """Return one execution. Raises `NotFound`, also for a dealership the principal does not see."""
    found = (await session.execute(_summaries(principal).where(ExecutionRow.id == execution_id))).one_or_none()
    if found is None:
        raise NotFound("there is no such execution")
    steps = await session.scalars(
        select(StepResultRow)
        .where(StepResultRow.execution_id == execution_id)
        .order_by(StepResultRow.started_at, StepResultRow.path, StepResultRow.attempt)
    )
    approvals = await session.scalars(select(ApprovalRow).where(ApprovalRow.execution_id == execution_id))
    effects = await session.scalars(select(SideEffectRow).where(SideEffectRow.execution_id == execution_id))
    tasks = await session.scalars(select(TaskRow).where(TaskRow.execution_id == execution_id))
    return ExecutionDetail(ExecutionSummary(*found), steps.all(), approvals.all(), effects.all(), tasks.all())


async def cancel(session: AsyncSession, principal: Principal, execution_id: UUID, *, now: datetime) -> Status:
    """Stop an execution: at once if nobody holds it, else before its next action. Raises `Conflict` if it is over.

    Rows of a tree are locked from the top down, so that a child that ends and its parent's end do not wait for each
    other.
    """
    row = await session.scalar(select(ExecutionRow).where(ExecutionRow.id == execution_id))
    if row is None or not principal.may_see(row.dealership_id):
        raise NotFound("there is no such execution")
    if row.parent_id is not None:
        await session.run_sync(lock, row.organization_id, row.parent_id)
    await session.refresh(row, with_for_update=True)
    if row.state in FINAL:
        raise Conflict(f"the execution has {row.state} already", code="execution_over", state=row.state)
    status = Status.RUNNING if row.state == Status.RUNNING else Status.CANCELLED
    await session.run_sync(cancel_locked, row.organization_id, [row], now)
    await audit.append(
        session,
        actor=principal,
        action="execution.cancelled",
        subject=f"execution/{execution_id}",
        details={"state": status.value},
    )
    return status


def _summaries(principal: Principal) -> Select[ExecutionRow, str, int, datetime, Any, int]:
    own_steps = (
        StepResultRow.organization_id == ExecutionRow.organization_id,
        StepResultRow.execution_id == ExecutionRow.id,
    )
    first = select(func.min(StepResultRow.started_at)).where(*own_steps).correlate(ExecutionRow).scalar_subquery()
    drafted = (
        select(func.min(StepResultRow.finished_at))
        .where(*own_steps, StepResultRow.kind == DRAFTING, StepResultRow.state == "succeeded")
        .correlate(ExecutionRow)
        .scalar_subquery()
    )
    cost = (
        select(cast(func.coalesce(func.sum(StepResultRow.cost_nusd), 0), BigInteger))
        .where(*own_steps)
        .correlate(ExecutionRow)
        .scalar_subquery()
    )
    query = (
        select(ExecutionRow, WorkflowRow.key, WorkflowVersionRow.number, first, drafted, cost)
        .join(
            WorkflowRow,
            (WorkflowRow.organization_id == ExecutionRow.organization_id)
            & (WorkflowRow.id == ExecutionRow.workflow_id),
        )
        .join(
            WorkflowVersionRow,
            (WorkflowVersionRow.organization_id == ExecutionRow.organization_id)
            & (WorkflowVersionRow.id == ExecutionRow.version_id),
        )
    )
    if principal.dealership_ids is not None:
        query = query.where(ExecutionRow.dealership_id.in_(principal.dealership_ids))
    return query
