"""Schedules that are due: each fires once for its time, whoever looks, and its audience is expanded then."""

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.expression import ExpressionEngine
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.automatrix.schedule import next_fire_at
from auterity_dagster.automatrix.workflow import ScheduleTrigger
from auterity_dagster.storage.repositories.audiences import TakenUp, Wanted, expand
from auterity_dagster.storage.repositories.batches import Batch, start_batch
from auterity_dagster.storage.tables.workflows import (
    TriggerFireRow,
    WorkflowRow,
    WorkflowTriggerRow,
    WorkflowVersionRow,
)

_DUE = text("SELECT organization_id, trigger_id FROM due_triggers(:now)")
DueTrigger = tuple[UUID, UUID]


def due_triggers(session: Session, now: datetime) -> tuple[DueTrigger, ...]:
    """Return organization and id of every schedule whose time has come."""
    return tuple((row.organization_id, row.trigger_id) for row in session.execute(_DUE, {"now": now}))


async def fire(session: AsyncSession, trigger_id: UUID, *, now: datetime, expressions: ExpressionEngine) -> int:
    """Fire one schedule if it is still due: start an execution for each subject and set the next time.

    Of several missed times only the last counts. Returns how many executions were started; 0 also if somebody else
    is firing it at this moment, or the workflow is paused.
    """
    trigger = await session.scalar(
        select(WorkflowTriggerRow)
        .where(WorkflowTriggerRow.id == trigger_id, WorkflowTriggerRow.next_fire_at <= now)
        .with_for_update(skip_locked=True)
    )
    if trigger is None or trigger.next_fire_at is None or trigger.dealership_id is None:
        return 0
    workflow = (await session.scalars(select(WorkflowRow).where(WorkflowRow.id == trigger.workflow_id))).one()
    version = (
        await session.scalars(select(WorkflowVersionRow).where(WorkflowVersionRow.id == trigger.version_id))
    ).one()
    definition = compile_document(version.definition, expressions).definition
    schedule = cast("ScheduleTrigger", next(one for one in definition.triggers if one.id == trigger.trigger_id))
    time_zone = trigger.time_zone or "UTC"
    scheduled_at = _last_missed(schedule.cron, first=trigger.next_fire_at, now=now, time_zone=time_zone)
    started: tuple[UUID, ...] = ()
    if workflow.state == "active" and await _is_first(session, trigger, scheduled_at, now):
        taken_up = None if schedule.cool_off is None else TakenUp(workflow.id, now - schedule.cool_off)
        wanted = Wanted(trigger.dealership_id, now, schedule.limit, taken_up)
        subjects = await expand(session, schedule.audience, wanted)
        key = f"{trigger.trigger_id}:{scheduled_at.astimezone(UTC).isoformat()}"
        batch = Batch(key, "schedule.fired", trigger.dealership_id, subjects, "batch")
        started = await start_batch(session, workflow.key, batch, now=now)
    trigger.next_fire_at = next_fire_at(schedule.cron, after=now, time_zone=time_zone)
    return len(started)


async def _is_first(session: AsyncSession, trigger: WorkflowTriggerRow, scheduled_at: datetime, now: datetime) -> bool:
    return bool(
        await session.scalar(
            insert(TriggerFireRow)
            .values(
                organization_id=trigger.organization_id,
                trigger_id=trigger.id,
                scheduled_at=scheduled_at,
                fired_at=now,
            )
            .on_conflict_do_nothing()
            .returning(TriggerFireRow.scheduled_at)
        )
    )


def _last_missed(cron: str, *, first: datetime, now: datetime, time_zone: str) -> datetime:
    """The latest time at or before now; looked for within the last day, else the first one missed."""
    last = first
    at = max(first, now - timedelta(days=1))
    while (at := next_fire_at(cron, after=at, time_zone=time_zone)) <= now:
        last = at
    return last
