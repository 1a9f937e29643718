"""Days of workflows as they were added up, for who may see their dealerships."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.storage.tables.workflow_analytics import LeadResponseDayRow, WorkflowDayRow


@dataclass(frozen=True, slots=True)
class DayFilter:
    """Days, both included, and dealerships; None: all of them."""

    since: date
    until: date
    dealership_ids: frozenset[UUID] | None


async def response_days(session: AsyncSession, wanted: DayFilter) -> Sequence[LeadResponseDayRow]:
    """Return how fast leads were answered, oldest day first."""
    row = LeadResponseDayRow
    found = select(row).where(*_conditions(row, wanted)).order_by(row.day, row.dealership_id)
    return (await session.scalars(found)).all()


async def funnel_days(session: AsyncSession, wanted: DayFilter) -> Sequence[WorkflowDayRow]:
    """Return how far executions came, oldest day first."""
    row = WorkflowDayRow
    found = select(row).where(*_conditions(row, wanted)).order_by(row.day, row.dealership_id, row.workflow_key)
    return (await session.scalars(found)).all()


def _conditions(row: Any, wanted: DayFilter) -> list[ColumnElement[bool]]:
    found = [row.day >= wanted.since, row.day <= wanted.until]
    if wanted.dealership_ids is not None:
        found.append(row.dealership_id.in_(wanted.dealership_ids))
    return found
