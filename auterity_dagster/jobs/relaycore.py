"""RelayCore's jobs: a predictor learned and gated on demand, analytics once a day."""

from collections.abc import Mapping
from uuid import UUID

import dagster as dg

from auterity_dagster.assets.relaycore import analytics, bills, quality

rc_quality = dg.define_asset_job(
    "rc_quality",
    selection=dg.AssetSelection.groups(quality.GROUP),
    executor_def=dg.in_process_executor,
    description="From measured outcomes to a gated routing predictor of one organization.",
    tags={"dagster/max_runtime": str(2 * 3600)},
)

rc_usage = dg.define_asset_job(
    "rc_usage",
    selection=dg.AssetSelection.assets(analytics.usage_day),
    executor_def=dg.in_process_executor,
    description="Add a day's usage up, for every organization.",
)

rc_advice = dg.define_asset_job(
    "rc_advice",
    selection=dg.AssetSelection.groups(analytics.GROUP) - dg.AssetSelection.assets(analytics.usage_day),
    executor_def=dg.in_process_executor,
    description="Share labels as priors; make and check recommendations.",
)

rc_reconciliation = dg.define_asset_job(
    "rc_reconciliation",
    selection=dg.AssetSelection.groups(bills.GROUP),
    executor_def=dg.in_process_executor,
    description="Compare providers' bills with the ledger and book the corrections.",
)

daily_usage = dg.build_schedule_from_partitioned_job(
    rc_usage, hour_of_day=0, minute_of_hour=20, default_status=dg.DefaultScheduleStatus.RUNNING
)

daily_advice = dg.ScheduleDefinition(
    name="daily_advice",
    job=rc_advice,
    cron_schedule="40 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

daily_reconciliation = dg.ScheduleDefinition(
    name="daily_reconciliation",
    job=rc_reconciliation,
    cron_schedule="0 0 * * *",  # before the usage of the day is added up, which its corrections change
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


def run_config(organization_id: UUID, *, outcomes: str = "", floor: float = 0.7) -> Mapping[str, object]:
    """Return the configuration of a run of `rc_quality`: for whom, on which table beside the evaluations' own."""
    scope = {"organization_id": str(organization_id), "outcomes": outcomes, "floor": floor}
    return {"resources": {"routing": {"config": scope}}}
