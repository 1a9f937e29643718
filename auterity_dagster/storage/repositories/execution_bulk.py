"""The same thing done to many executions: found by a filter, locked in one order, changed in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.expression import ExpressionEngine
from auterity_dagster.errors import Conflict, Invalid
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.cancelling import OPEN, cancel_locked
from auterity_dagster.storage.repositories.execution_replay import ReplayWish, replay
from auterity_dagster.storage.tables.workflows import ExecutionRow, WorkflowRow

BULK_LIMIT = 1000
"""Executions that one call changes; the answer says how many are left."""

Action = Literal["cancel", "replay"]


@dataclass(frozen=True, slots=True)
class BulkFilter:
    """Which executions; None does not filter. Without a `state` those to which the action can be done."""

    state: str | None = None
    workflow: str | None = None
    error: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bulk:
    """What is to be done to which executions, under which key, so that repeating it replays nothing twice."""

    action: Action
    wanted: BulkFilter
    key: str


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What was changed, or would be: `left` is True if more match. `refused` could not be replayed, with the reason."""

    executions: tuple[UUID, ...]
    refused: tuple[tuple[UUID, str], ...]
    left: bool


def find(session: Session, principal: Principal, bulk: Bulk) -> BulkResult:
    """Return what the action would be done to, oldest first."""
    found = _found(session, principal, bulk, is_locked=False)
    return BulkResult(tuple(row.id for row in found[:BULK_LIMIT]), (), len(found) > BULK_LIMIT)


def change(
    session: Session, principal: Principal, bulk: Bulk, *, expressions: ExpressionEngine, now: datetime
) -> BulkResult:
    """Do it to the first 1,000."""
    found = _found(session, principal, bulk, is_locked=bulk.action == "cancel")
    rows, left = found[:BULK_LIMIT], len(found) > BULK_LIMIT
    refused: list[tuple[UUID, str]] = []
    if bulk.action == "cancel" and rows:
        cancel_locked(session, rows[0].organization_id, rows, now)
    if bulk.action == "replay":
        for row in rows:
            wish = ReplayWish(None, "same", {}, f"{bulk.key}:{row.id}")
            try:
                replay(session, principal, row.id, wish, expressions=expressions, now=now)
            except (Conflict, Invalid) as error:
                refused.append((row.id, error.message))
    audit.append_blocking(
        session,
        actor=principal,
        action=f"execution.bulk_{bulk.action}",
        subject="execution",
        details={"executions": len(rows) - len(refused), "refused": len(refused)},
    )
    unchanged = {one for one, _reason in refused}
    return BulkResult(tuple(row.id for row in rows if row.id not in unchanged), tuple(refused), left)


def _found(session: Session, principal: Principal, bulk: Bulk, *, is_locked: bool) -> Sequence[ExecutionRow]:
    wanted = bulk.wanted
    possible = OPEN if bulk.action == "cancel" else ("failed", "cancelled")
    if wanted.state is not None and wanted.state not in possible:
        raise Invalid(
            f"to {bulk.action} is possible for {', '.join(possible)}, the filter says {wanted.state!r}", field="state"
        )
    query: Any = select(ExecutionRow)
    query = query.where(ExecutionRow.state.in_([wanted.state] if wanted.state else possible))
    if principal.dealership_ids is not None:
        query = query.where(ExecutionRow.dealership_id.in_(principal.dealership_ids))
    if wanted.workflow is not None:
        own = select(WorkflowRow.id).where(WorkflowRow.key == wanted.workflow)
        query = query.where(ExecutionRow.workflow_id.in_(own))
    if wanted.error is not None:
        query = query.where(ExecutionRow.error["code"].astext == wanted.error)
    if wanted.created_after is not None:
        query = query.where(ExecutionRow.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(ExecutionRow.created_at < wanted.created_before)
    # Parents before their children: rows of a tree are locked from the top down.
    query = query.order_by(ExecutionRow.depth, ExecutionRow.created_at, ExecutionRow.id).limit(BULK_LIMIT + 1)
    return session.scalars(query.with_for_update(of=ExecutionRow) if is_locked else query).all()
