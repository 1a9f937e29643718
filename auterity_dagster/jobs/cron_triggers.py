"""The one schedule of Dagster that stands for every dealership's own schedules."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import dagster as dg

from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.cron import DueTrigger, due_triggers, fire


@dg.op
def fire_due(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
    """Fire every schedule that is due, each in a transaction of its own."""
    now = datetime.now(UTC)
    with database.connected() as connected, connected.begin_without_organization() as session:
        due = due_triggers(session, now)
    for organization_id, trigger_id in due:
        started = asyncio.run(_fire(database.url, (organization_id, trigger_id), now))
        context.log.info(f"trigger {trigger_id}: {started} executions")


@dg.job(executor_def=dg.in_process_executor)
def fire_cron_triggers():
    """Expand the audiences of the schedules that are due."""
    fire_due()


@dg.schedule(
    name="due_cron_triggers",
    job=fire_cron_triggers,
    cron_schedule="* * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def due_cron_triggers(context: dg.ScheduleEvaluationContext, database: DatabaseResource):
    """Ask each minute whether any schedule is due; only then a run begins."""
    with database.connected() as connected, connected.begin_without_organization() as session:
        due = due_triggers(session, datetime.now(UTC))
    return dg.RunRequest() if due else dg.SkipReason("no schedule is due")


async def _fire(url: str, trigger: DueTrigger, now: datetime) -> int:
    organization_id: UUID
    organization_id, trigger_id = trigger
    database = Database(url, pool_size=1)
    try:
        async with database.begin(organization_id) as session:
            return await fire(session, trigger_id, now=now, expressions=CelEngine())
    finally:
        await database.close()
