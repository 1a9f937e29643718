"""Slots of concurrency: each is a row of the execution that holds it, and goes to the next one when that ends.

An execution's row is always locked before a slot's. Who finds every slot taken locks them, so that a holder that ends
at that moment sees who waits, or is seen to have ended.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.storage.tables.workflows import ConcurrencySlotRow, ExecutionRow

NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""A time that does not come: psycopg cannot read PostgreSQL's own `infinity`."""


def take(session: Session, organization_id: UUID, execution_id: UUID, *, key: str, limit: int, now: datetime) -> bool:
    """Take a free slot of the key; False if there is none."""
    for slot in range(1, limit + 1):
        taken = session.scalar(
            insert(ConcurrencySlotRow)
            .values(organization_id=organization_id, key=key, slot=slot, execution_id=execution_id, taken_at=now)
            .on_conflict_do_nothing()
            .returning(ConcurrencySlotRow.slot)
        )
        if taken is not None:
            return True
    return False


def locked_holders(session: Session, organization_id: UUID, key: str) -> Collection[UUID]:
    """Return who holds the key's slots; none of them is given up before this transaction ends."""
    return session.scalars(
        select(ConcurrencySlotRow.execution_id)
        .where(ConcurrencySlotRow.organization_id == organization_id, ConcurrencySlotRow.key == key)
        .order_by(ConcurrencySlotRow.slot)
        .with_for_update()
    ).all()


def oldest_holder(session: Session, organization_id: UUID, key: str) -> UUID | None:
    """Return who has held a slot of the key for longest."""
    return session.scalar(
        select(ConcurrencySlotRow.execution_id)
        .where(ConcurrencySlotRow.organization_id == organization_id, ConcurrencySlotRow.key == key)
        .order_by(ConcurrencySlotRow.taken_at, ConcurrencySlotRow.slot)
        .limit(1)
    )


def release(session: Session, organization_id: UUID, executions: Collection[UUID], now: datetime) -> None:
    """Give up the slots of executions that have ended, each to the one that has waited longest for its key."""
    held = session.scalars(
        select(ConcurrencySlotRow)
        .where(ConcurrencySlotRow.organization_id == organization_id, ConcurrencySlotRow.execution_id.in_(executions))
        .order_by(ConcurrencySlotRow.key, ConcurrencySlotRow.slot)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for slot in held:
        own = (
            ConcurrencySlotRow.organization_id == organization_id,
            ConcurrencySlotRow.key == slot.key,
            ConcurrencySlotRow.slot == slot.slot,
        )
        heir = _admit_next(session, organization_id, slot.key, now)
        if heir is None:
            session.execute(delete(ConcurrencySlotRow).where(*own))
        else:
            session.execute(update(ConcurrencySlotRow).where(*own).values(execution_id=heir, taken_at=now))


def _admit_next(session: Session, organization_id: UUID, key: str, now: datetime) -> UUID | None:
    """Queue the execution that has waited longest; one that is locked is being cancelled at this moment."""
    heir = session.execute(
        select(ExecutionRow.id, ExecutionRow.deadline_at, ExecutionRow.created_at)
        .where(
            ExecutionRow.organization_id == organization_id,
            ExecutionRow.blocked_on == key,
            ExecutionRow.state == "queued",
        )
        .order_by(ExecutionRow.created_at, ExecutionRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if heir is None:
        return None
    admit(session, organization_id, heir.id, deadline_at=now + (heir.deadline_at - heir.created_at), now=now)
    return heir.id


def admit(session: Session, organization_id: UUID, execution_id: UUID, *, deadline_at: datetime, now: datetime) -> None:
    """Let an execution that was blocked begin; its time counts from now."""
    session.execute(
        update(ExecutionRow)
        .where(ExecutionRow.organization_id == organization_id, ExecutionRow.id == execution_id)
        .values(blocked_on=None, ready_at=now, deadline_at=deadline_at)
    )
