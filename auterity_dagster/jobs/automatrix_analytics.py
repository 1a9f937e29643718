"""AutoMatrix's analytics once a day, and a look for stuck executions every ten minutes."""

import dagster as dg

from auterity_dagster.assets.automatrix import analytics

am_days = dg.define_asset_job(
    "am_days",
    selection=dg.AssetSelection.assets(analytics.lead_response_times, analytics.workflow_funnel),
    executor_def=dg.in_process_executor,
    description="Add up how fast leads were answered and how far executions came, for every organization.",
)

am_stuck = dg.define_asset_job(
    "am_stuck",
    selection=dg.AssetSelection.assets(analytics.stuck_executions),
    executor_def=dg.in_process_executor,
    description="Look for executions that nobody works on though somebody should.",
)

# Fourteen hours after midnight in UTC the day is over in every dealership's zone.
daily_workflow_analytics = dg.build_schedule_from_partitioned_job(
    am_days, hour_of_day=14, minute_of_hour=10, default_status=dg.DefaultScheduleStatus.RUNNING
)

look_for_stuck = dg.ScheduleDefinition(
    name="look_for_stuck",
    job=am_stuck,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
