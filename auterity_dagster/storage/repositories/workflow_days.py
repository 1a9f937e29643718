"""Add up what executions and leads came to on one day, a day being the dealership's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Date, Float, Text, cast, delete, func, insert, select
from sqlalchemy.orm import Session

from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.inbound import LeadRow
from auterity_dagster.storage.tables.workflow_analytics import LeadResponseDayRow, WorkflowDayRow
from auterity_dagster.storage.tables.workflows import (
    ApprovalRow,
    ExecutionRow,
    SideEffectRow,
    StepResultRow,
    WorkflowRow,
)

SENDS = ("send_sms", "send_email")
WITHIN_S = 300
ZONES = timedelta(hours=14)
"""No dealership's day begins or ends further from the same day in UTC."""


@dataclass(frozen=True, slots=True)
class Funnel:
    """Sums that can contradict each other if something was counted twice or lost."""

    day: date
    received: int
    drafted: int
    reviewed: int
    approved: int
    sent: int


def organizations_with_executions(session: Session, days: Sequence[date]) -> Sequence[UUID]:
    """Return whose executions or leads came on these days, over all organizations: ids only."""
    since, until = _around(min(days))[0], _around(max(days))[1]
    return list(session.scalars(select(func.organizations_with_executions(since, until))))


def roll_up_responses(session: Session, organization_id: UUID, day: date) -> int:
    """Write anew how fast the leads of a day were answered; return how many dealerships had leads.

    The answer to a lead is the first confirmed message of any execution about it.
    """
    about = func.concat("leads/", cast(LeadRow.id, Text))
    its_execution = (ExecutionRow.organization_id == SideEffectRow.organization_id) & (
        ExecutionRow.id == SideEffectRow.execution_id
    )
    answered_at = (
        select(func.min(SideEffectRow.resolved_at))
        .join(ExecutionRow, its_execution)
        .where(
            ExecutionRow.organization_id == LeadRow.organization_id,
            ExecutionRow.subject == about,
            SideEffectRow.kind.in_(SENDS),
            SideEffectRow.state == "confirmed",
        )
        .scalar_subquery()
    )
    seconds = func.extract("epoch", answered_at - LeadRow.received_at)
    leads = (
        select(LeadRow.dealership_id.label("dealership_id"), cast(seconds, Float).label("seconds"))
        .join(DealershipRow, DealershipRow.id == LeadRow.dealership_id)
        .where(*_of_day(LeadRow.received_at, day))
        .subquery()
    )
    s = leads.c.seconds
    rows = session.execute(
        select(
            leads.c.dealership_id,
            func.count().label("leads"),
            func.count(s).label("answered"),
            func.count().filter(s <= WITHIN_S).label("within_5_min"),
            func.count().filter(s < 0).label("negative"),
            func.percentile_cont(0.5).within_group(s).label("p50_s"),
            func.percentile_cont(0.9).within_group(s).label("p90_s"),
        ).group_by(leads.c.dealership_id)
    )
    return _replace(session, LeadResponseDayRow, organization_id, day, rows.mappings().all())


def roll_up_funnel(session: Session, organization_id: UUID, day: date) -> int:
    """Write anew how far the executions of a day came; return how many groups there are."""
    drafted = _exists(StepResultRow, StepResultRow.kind == "ai_prompt", StepResultRow.state == "succeeded")
    reviewed = _exists(ApprovalRow)
    approved = _exists(ApprovalRow, ApprovalRow.state == "approved")
    sent = _exists(SideEffectRow, SideEffectRow.kind.in_(SENDS), SideEffectRow.state == "confirmed")
    executions = (
        select(
            ExecutionRow.dealership_id,
            ExecutionRow.workflow_id,
            WorkflowRow.key.label("workflow_key"),
            ExecutionRow.state,
            drafted.label("is_drafted"),
            reviewed.label("is_reviewed"),
            approved.label("is_approved"),
            sent.label("is_sent"),
            _spent(StepResultRow.prompt_tokens).label("prompt_tokens"),
            _spent(StepResultRow.completion_tokens).label("completion_tokens"),
            _spent(StepResultRow.cost_nusd).label("cost_nusd"),
        )
        .join(DealershipRow, DealershipRow.id == ExecutionRow.dealership_id)
        .join(WorkflowRow, WorkflowRow.id == ExecutionRow.workflow_id)
        .where(*_of_day(ExecutionRow.received_at, day))
        .subquery()
    )
    c = executions.c
    rows = session.execute(
        select(
            c.dealership_id,
            c.workflow_id,
            c.workflow_key,
            func.count().label("received"),
            func.count().filter(c.is_drafted).label("drafted"),
            func.count().filter(c.is_reviewed).label("reviewed"),
            func.count().filter(c.is_approved).label("approved"),
            func.count().filter(c.is_sent).label("sent"),
            func.count().filter(c.state == "succeeded").label("succeeded"),
            func.count().filter(c.state == "failed").label("failed"),
            *(cast(func.sum(c[name]), BigInteger).label(name) for name in _SPENT),
        ).group_by(c.dealership_id, c.workflow_id, c.workflow_key)
    )
    return _replace(session, WorkflowDayRow, organization_id, day, rows.mappings().all())


def negative_times(session: Session, days: Sequence[date]) -> int:
    """Return how many leads were answered before they came: a clock or a journal is wrong."""
    wanted = select(func.coalesce(func.sum(LeadResponseDayRow.negative), 0)).where(LeadResponseDayRow.day.in_(days))
    return int(session.scalar(wanted) or 0)


def rising_funnels(session: Session, days: Sequence[date]) -> Sequence[Funnel]:
    """Return the groups in which more came out of a stage than went into it."""
    row = WorkflowDayRow
    least = func.least(row.received - row.drafted, row.received - row.reviewed, row.reviewed - row.approved)
    found = session.execute(
        select(row.day, row.received, row.drafted, row.reviewed, row.approved, row.sent).where(
            row.day.in_(days), func.least(least, row.received - row.sent) < 0
        )
    )
    return [Funnel(*one) for one in found]


_SPENT = ("prompt_tokens", "completion_tokens", "cost_nusd")


def _of_day(at: Any, day: date) -> tuple[ColumnElement[bool], ...]:
    """The first two conditions are for the index, the third is exact."""
    since, until = _around(day)
    return at >= since, at < until, cast(func.timezone(DealershipRow.time_zone, at), Date) == day


def _around(day: date) -> tuple[datetime, datetime]:
    midnight = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    return midnight - ZONES, midnight + timedelta(days=1) + ZONES


def _exists(row: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    mine = (row.organization_id == ExecutionRow.organization_id, row.execution_id == ExecutionRow.id)
    return select(row.execution_id).where(*mine, *conditions).exists()


def _spent(column: Any) -> ColumnElement[int]:
    """Every attempt counts: a repeated step was paid twice."""
    mine = (
        StepResultRow.organization_id == ExecutionRow.organization_id,
        StepResultRow.execution_id == ExecutionRow.id,
    )
    return select(func.coalesce(func.sum(column), 0)).where(*mine).scalar_subquery()


def _replace(session: Session, row: Any, organization_id: UUID, day: date, groups: Sequence[Any]) -> int:
    session.execute(delete(row).where(row.day == day))
    if groups:
        session.execute(insert(row), [{"organization_id": organization_id, "day": day, **group} for group in groups])
    return len(groups)
