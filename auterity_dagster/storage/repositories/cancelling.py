"""Cancelling is one change of state; what hangs on an execution ends with it: steps, approvals, waits, children."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.execution import Status
from auterity_dagster.storage.repositories import slots, waits
from auterity_dagster.storage.repositories.outbox import EXECUTIONS, execution_topic
from auterity_dagster.storage.repositories.parents import tell_parent
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, OutboxRow, StepResultRow

OPEN = (Status.QUEUED, Status.RUNNING, Status.WAITING)


def cancel_locked(session: Session, organization_id: UUID, rows: Sequence[ExecutionRow], now: datetime) -> None:
    """Cancel open executions whose rows, and whose parents' rows, the caller has locked.

    One that a worker holds is only marked, and ends before its next action; the others are over at once, whatever
    their number in a handful of statements. Children that are waited for end with their parents.
    """
    running = [row.id for row in rows if row.state == Status.RUNNING]
    others = [row for row in rows if row.state != Status.RUNNING]
    own = ExecutionRow.organization_id == organization_id
    if running:
        session.execute(update(ExecutionRow).where(own, ExecutionRow.id.in_(running)).values(is_cancel_requested=True))
    if not others:
        return
    ids = [row.id for row in others]
    session.execute(
        update(ExecutionRow)
        .where(own, ExecutionRow.id.in_(ids))
        .values(state=Status.CANCELLED, is_cancel_requested=True, finished_at=now, blocked_on=None)
        .execution_options(synchronize_session=False)
    )
    close_steps(session, organization_id, ids, now)
    _announce(session, others, now)
    result: dict[str, object] = {"state": Status.CANCELLED.value, "outputs": {}}
    after_end(session, organization_id, ids, result=result, now=now)


def after_end(
    session: Session, organization_id: UUID, executions: Collection[UUID], *, result: Mapping[str, Any], now: datetime
) -> None:
    """Do what every end does, however it came: end the children, hand on the slots, tell the parents."""
    end_children(session, organization_id, executions, now)
    slots.release(session, organization_id, executions, now)
    for execution_id in executions:
        tell_parent(session, organization_id, execution_id, result=result, now=now)


def end_children(session: Session, organization_id: UUID, executions: Collection[UUID], now: datetime) -> None:
    """Cancel the open children that these executions wait for."""
    children = session.scalars(
        select(ExecutionRow)
        .where(
            ExecutionRow.organization_id == organization_id,
            ExecutionRow.parent_id.in_(executions),
            ExecutionRow.is_awaited,
            ExecutionRow.state.in_(OPEN),
        )
        .order_by(ExecutionRow.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if children:
        cancel_locked(session, organization_id, children, now)


def close_steps(session: Session, organization_id: UUID, executions: Collection[UUID], now: datetime) -> None:
    """Close every step, approval and wait that is open."""
    session.execute(
        update(StepResultRow)
        .where(
            StepResultRow.organization_id == organization_id,
            StepResultRow.execution_id.in_(executions),
            StepResultRow.state.in_(("running", "waiting")),
        )
        .values(state="cancelled", finished_at=now)
    )
    session.execute(
        update(ApprovalRow)
        .where(
            ApprovalRow.organization_id == organization_id,
            ApprovalRow.execution_id.in_(executions),
            ApprovalRow.state == "open",
        )
        .values(state="cancelled", decided_at=now)
    )
    waits.close(session, organization_id, executions, now)


def _announce(session: Session, rows: Sequence[ExecutionRow], now: datetime) -> None:
    session.execute(
        insert(OutboxRow),
        [
            {
                "organization_id": row.organization_id,
                "id": uuid4(),
                "topic": topic,
                "type": "execution.moved",
                "payload": {
                    "execution_id": str(row.id),
                    "dealership_id": str(row.dealership_id),
                    "state": Status.CANCELLED.value,
                    "at": now.isoformat(),
                },
                "created_at": now,
            }
            for row in rows
            for topic in (EXECUTIONS, execution_topic(row.id))
        ],
    )
