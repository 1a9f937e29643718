"""A new execution whose workflow limits concurrency: it begins, waits, or gives way to the one there is."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.execution import FINAL, Status
from auterity_dagster.automatrix.workflow import Concurrency
from auterity_dagster.storage.repositories import slots, waits
from auterity_dagster.storage.repositories.cancelling import cancel_locked
from auterity_dagster.storage.repositories.claims import lock
from auterity_dagster.storage.tables.workflows import ExecutionRow

TRIES = 5
"""How often a slot is looked for again because its holder ended while it was looked at; then it is waited for."""


@dataclass(frozen=True, slots=True)
class Entering:
    """An execution that was inserted as blocked on `key`."""

    organization_id: UUID
    execution_id: UUID
    key: str
    deadline_at: datetime


def enter(session: Session, entering: Entering, policy: Concurrency, event: Event, now: datetime) -> bool:
    """Give the execution a slot, or do with it what the policy says; False if it will not run."""
    for _try in range(TRIES):
        if _take(session, entering, policy, now):
            return True
        holder = slots.oldest_holder(session, entering.organization_id, entering.key)
        if holder is None:
            continue
        if holder == entering.execution_id:
            # Whoever gave it up handed it to the one that waited for longest: this one.
            return True
        match policy.on_conflict:
            case "skip":
                _end(session, entering, "skipped", f"execution {holder} holds {entering.key!r}", now)
                return False
            case "join":
                if _join(session, entering, holder, event, now):
                    _end(session, entering, "joined", f"execution {holder} holds {entering.key!r}", now)
                    return False
            case "replace":
                if not _replace(session, entering, holder, now):
                    break
            case "queue":
                break
    # Locked, no holder ends unseen: the slot is taken now, or whoever gives one up finds this execution.
    holders = slots.locked_holders(session, entering.organization_id, entering.key)
    if len(holders) < policy.limit:
        _take(session, entering, policy, now)
    return True


def _take(session: Session, entering: Entering, policy: Concurrency, now: datetime) -> bool:
    ids = (entering.organization_id, entering.execution_id)
    if not slots.take(session, *ids, key=entering.key, limit=policy.limit, now=now):
        return False
    slots.admit(session, *ids, deadline_at=entering.deadline_at, now=now)
    return True


def _join(session: Session, entering: Entering, holder: UUID, event: Event, now: datetime) -> bool:
    """Hand the event to the execution that holds the key; False if that has ended meanwhile."""
    lock(session, entering.organization_id, holder)
    if _state(session, entering.organization_id, holder) in FINAL:
        return False
    waits.hand_over(session, event, holder, now)
    return True


def _replace(session: Session, entering: Entering, holder: UUID, now: datetime) -> bool:
    """Cancel the execution that holds the key; False if a worker holds it, which ends it before its next action."""
    own = (ExecutionRow.organization_id == entering.organization_id, ExecutionRow.id == holder)
    parent_id = session.scalar(select(ExecutionRow.parent_id).where(*own))
    if parent_id is not None:
        lock(session, entering.organization_id, parent_id)
    row = session.scalars(
        select(ExecutionRow).where(*own).with_for_update().execution_options(populate_existing=True)
    ).one()
    if row.state in FINAL:
        return True
    cancel_locked(session, entering.organization_id, [row], now)
    return row.state != Status.RUNNING


def _state(session: Session, organization_id: UUID, execution_id: UUID) -> str:
    return session.scalars(
        select(ExecutionRow.state).where(
            ExecutionRow.organization_id == organization_id, ExecutionRow.id == execution_id
        )
    ).one()


def _end(session: Session, entering: Entering, code: str, reason: str, now: datetime) -> None:
    session.execute(
        update(ExecutionRow)
        .where(ExecutionRow.organization_id == entering.organization_id, ExecutionRow.id == entering.execution_id)
        .values(state=Status.CANCELLED, blocked_on=None, error={"code": code, "message": reason}, finished_at=now)
    )
