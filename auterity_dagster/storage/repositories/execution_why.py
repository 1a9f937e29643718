"""The records that explain where an execution stands."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.execution import Status, StepError
from auterity_dagster.automatrix.why import Awaited, Explanation, Facts, FailedStep, explain
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories import executions
from auterity_dagster.storage.repositories.executions import ExecutionDetail
from auterity_dagster.storage.tables.workflows import ConcurrencySlotRow, ExecutionRow, StepResultRow, WaitRow


async def why(session: AsyncSession, principal: Principal, execution_id: UUID) -> tuple[ExecutionRow, Explanation]:
    """Explain one execution. Raises `NotFound`, also for a dealership the principal does not see."""
    found = await executions.find(session, principal, execution_id)
    row = found.summary.row
    waits = await session.scalars(
        select(WaitRow).where(WaitRow.execution_id == execution_id, WaitRow.state == "open").order_by(WaitRow.path)
    )
    children = await session.scalars(
        select(ExecutionRow).where(ExecutionRow.parent_id == execution_id, ExecutionRow.is_awaited)
    )
    called = {one.parent_path: one.id for one in children}
    awaited = [*_approvals(found), *_retries(found)]
    awaited += [_wait(one, called.get(one.path)) for one in waits]
    if row.blocked_on is not None:
        holders = await session.scalars(
            select(ConcurrencySlotRow.execution_id).where(ConcurrencySlotRow.key == row.blocked_on)
        )
        who = ", ".join(str(one) for one in holders) or "nobody"
        awaited.append(Awaited("slot", None, f"its turn: {who} holds {row.blocked_on!r}", None))
    facts = Facts(
        state=Status(row.state),
        error=None if row.error is None else StepError(row.error["code"], row.error["message"]),
        is_cancel_requested=row.is_cancel_requested,
        failed=tuple(_failed(found.steps)),
        awaited=tuple(awaited),
        unknown_effects=tuple(one.path for one in found.effects if one.state == "unknown"),
    )
    return row, explain(facts)


def _failed(steps: Sequence[StepResultRow]) -> list[FailedStep]:
    last = {one.path: one for one in steps}
    return [
        FailedStep(path, one.attempt, StepError(one.error["code"], one.error["message"]))
        for path, one in last.items()
        if one.state == "failed" and one.error is not None and one.retry_at is None
    ]


def _approvals(found: ExecutionDetail) -> list[Awaited]:
    return [
        Awaited("approval", one.path, f"a person with the role {one.role} to decide {one.title!r}", one.expires_at)
        for one in found.approvals
        if one.state == "open"
    ]


def _retries(found: ExecutionDetail) -> list[Awaited]:
    if found.summary.row.state != Status.QUEUED:
        return []
    last = {one.path: one for one in found.steps}
    return [
        Awaited("retry", path, f"the next attempt at step {path}", one.retry_at)
        for path, one in last.items()
        if one.state == "failed" and one.retry_at is not None
    ]


def _wait(wait: WaitRow, child: UUID | None) -> Awaited:
    if child is not None:
        return Awaited("execution", wait.path, f"execution {child} to end", None)
    if wait.event_type is not None:
        shown = f"an event {wait.event_type} with {wait.match}" if wait.match else f"an event {wait.event_type}"
        return Awaited("event", wait.path, shown, wait.expires_at)
    return Awaited("time", wait.path, f"{wait.expires_at.isoformat()}", wait.expires_at)
