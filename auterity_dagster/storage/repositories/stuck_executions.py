"""Executions that nobody works on though somebody should: overdue ones, unclear effects, approvals past their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, SideEffectRow

Trouble = Literal["overdue", "unknown_effect", "late_approval"]
LIMIT = 500


@dataclass(frozen=True, slots=True)
class StuckExecution:
    """What is wrong with an execution, and since when."""

    execution_id: UUID
    dealership_id: UUID
    trouble: Trouble
    since: datetime


def organizations_with_stuck_executions(session: Session, before: datetime) -> Sequence[UUID]:
    """Return whose executions are stuck, over all organizations: ids only."""
    return list(session.scalars(select(func.organizations_with_stuck_executions(before))))


def stuck_blocking(session: Session, before: datetime) -> Sequence[StuckExecution]:
    """Return the organization's, oldest first, at most 500 of each kind; `before` says how late is late."""
    return _found([(kind, session.execute(wanted).all()) for kind, wanted in _wanted(before)])


async def stuck(session: AsyncSession, before: datetime) -> Sequence[StuckExecution]:
    """The same for asynchronous code."""
    return _found([(kind, (await session.execute(wanted)).all()) for kind, wanted in _wanted(before)])


def _wanted(before: datetime) -> Sequence[tuple[Trouble, Select[UUID, UUID, datetime]]]:
    execution = ExecutionRow
    mine = (execution.organization_id == SideEffectRow.organization_id) & (execution.id == SideEffectRow.execution_id)
    overdue = select(execution.id, execution.dealership_id, execution.ready_at.label("since")).where(
        execution.state.in_(("queued", "running")), execution.ready_at < before
    )
    unclear = (
        select(execution.id, execution.dealership_id, SideEffectRow.intended_at.label("since"))
        .join(SideEffectRow, mine)
        .where(SideEffectRow.state == "unknown")
    )
    late = select(ApprovalRow.execution_id, ApprovalRow.dealership_id, ApprovalRow.expires_at.label("since")).where(
        ApprovalRow.state == "open", ApprovalRow.expires_at < before
    )
    kinds: tuple[tuple[Trouble, Select[UUID, UUID, datetime]], ...] = (
        ("overdue", overdue),
        ("unknown_effect", unclear),
        ("late_approval", late),
    )
    return [(kind, wanted.order_by("since").limit(LIMIT)) for kind, wanted in kinds]


def _found(groups: Sequence[tuple[Trouble, Sequence[Any]]]) -> Sequence[StuckExecution]:
    found = [StuckExecution(row[0], row[1], kind, row[2]) for kind, rows in groups for row in rows]
    return sorted(found, key=lambda one: (one.since, one.execution_id))
