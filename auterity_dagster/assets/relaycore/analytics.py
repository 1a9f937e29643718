"""What RelayCore makes of each day: usage added up, labels shared as priors, recommendations that can be checked."""

from datetime import date

import dagster as dg

from auterity_dagster.assets.checks import checked
from auterity_dagster.assets.days import DAYS, days_back
from auterity_dagster.clock import SystemClock
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.repositories import usage_days
from auterity_dagster.storage.repositories.shared_quality import share_labels
from auterity_dagster.storage.repositories.usage_totals import differing_days

GROUP = "relaycore_analytics"
LOOK_BACK_DAYS = 3
"""A day is added up again for so long: corrections of bills arrive late."""


@dg.asset(
    group_name=GROUP,
    partitions_def=DAYS,
    kinds={"postgres"},
    check_specs=[dg.AssetCheckSpec("sums_agree", asset="usage_day")],
)
def usage_day(context: dg.AssetExecutionContext, database: DatabaseResource) -> dg.MaterializeResult:
    """Attempts, tokens, cost, errors and latencies of a day by task, deployment, dealership and purpose."""
    day = date.fromisoformat(context.partition_key)
    days = days_back(day, LOOK_BACK_DAYS)
    groups = 0
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = usage_days.organizations_with_usage(session, since=days[-1], until=day)
        for organization_id in organizations:
            for one in days:
                with connected.begin(organization_id) as session:
                    groups += usage_days.roll_up(session, organization_id, one)
        differing = []
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                differing += differing_days(session, days)
    return dg.MaterializeResult(
        metadata={"organizations": len(organizations), "groups": groups, "days": [str(one) for one in days]},
        check_results=[checked("sums_agree", not differing, differing=sorted(map(str, differing)))],
    )


@dg.asset(group_name=GROUP, kinds={"postgres"})
def shared_quality(database: DatabaseResource) -> dg.MaterializeResult:
    """What organizations' labels say together of providers' models: to each the others' prior, nobody over a fifth."""
    with database.connected() as connected:
        written = share_labels(connected, now=SystemClock().now())
    return dg.MaterializeResult(metadata={"priors": written})
