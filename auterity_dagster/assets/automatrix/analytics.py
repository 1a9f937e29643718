"""What AutoMatrix makes of each day: how fast leads are answered, how far executions come, and which are stuck."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import dagster as dg
from sqlalchemy.orm import Session

from auterity_dagster.assets.checks import checked
from auterity_dagster.assets.days import DAYS, days_back
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.repositories import workflow_days
from auterity_dagster.storage.repositories.stuck_executions import (
    organizations_with_stuck_executions,
    stuck_blocking,
)

GROUP = "automatrix_analytics"
LOOK_BACK_DAYS = 3
"""A day is added up again for so long: approvals and answers come late."""

STUCK_AFTER = timedelta(minutes=5)


@dg.asset(
    group_name=GROUP,
    partitions_def=DAYS,
    kinds={"postgres"},
    check_specs=[dg.AssetCheckSpec("no_negative_time", asset="lead_response_times")],
)
def lead_response_times(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
    """How fast leads were answered, by dealership and its own day: p50, p90, share within five minutes."""
    days = days_back(date.fromisoformat(context.partition_key), LOOK_BACK_DAYS)
    groups, negative = _each_organization(
        database, days, workflow_days.roll_up_responses, lambda session: workflow_days.negative_times(session, days)
    )
    return dg.MaterializeResult(
        metadata={"groups": groups, "days": [str(one) for one in days]},
        check_results=[checked("no_negative_time", not sum(negative), wrong=sum(negative))],
    )


@dg.asset(
    group_name=GROUP,
    partitions_def=DAYS,
    kinds={"postgres"},
    check_specs=[dg.AssetCheckSpec("funnel_falls", asset="workflow_funnel")],
)
def workflow_funnel(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
    """How many executions were received, drafted, reviewed, approved and sent, and what their AI calls cost."""
    days = days_back(date.fromisoformat(context.partition_key), LOOK_BACK_DAYS)
    groups, rising = _each_organization(
        database, days, workflow_days.roll_up_funnel, lambda session: len(workflow_days.rising_funnels(session, days))
    )
    return dg.MaterializeResult(
        metadata={"groups": groups, "days": [str(one) for one in days]},
        check_results=[checked("funnel_falls", not sum(rising), wrong=sum(rising))],
    )


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    check_specs=[dg.AssetCheckSpec("nothing_stuck", asset="stuck_executions", blocking=False)],
)
def stuck_executions(database: DatabaseResource) -> dg.MaterializeResult:
    """Executions overdue for five minutes, effects nobody knows the end of, approvals past their time; ids only."""
    before = datetime.now(UTC) - STUCK_AFTER
    counts: dict[str, int] = {"overdue": 0, "unknown_effect": 0, "late_approval": 0}
    oldest = None
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = organizations_with_stuck_executions(session, before)
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                found = stuck_blocking(session, before)
            for one in found:
                counts[one.trouble] += 1
                oldest = one.since if oldest is None else min(oldest, one.since)
    stuck = sum(counts.values())
    return dg.MaterializeResult(
        metadata={**counts, "oldest": str(oldest)}, check_results=[checked("nothing_stuck", not stuck, wrong=stuck)]
    )


def _each_organization(
    database: DatabaseResource,
    days: Sequence[date],
    roll_up: Callable[[Session, UUID, date], int],
    wrong: Callable[[Session], int],
) -> tuple[int, Sequence[int]]:
    """Add the days up for every organization that has any; return the groups, and what each finds wrong."""
    groups, found = 0, list[int]()
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = workflow_days.organizations_with_executions(session, days)
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                groups += sum(roll_up(session, organization_id, day) for day in days)
                found.append(wrong(session))
    return groups, found
