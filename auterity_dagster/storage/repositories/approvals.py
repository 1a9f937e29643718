"""What waits for people: the first valid decision wins, and wakes its execution in the same transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.approval import final_texts, may_decide, require_decider
from auterity_dagster.errors import Conflict, NotFound, NotPermitted
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.outbox import APPROVALS, EXECUTIONS, announcement, execution_topic
from auterity_dagster.storage.tables.identity import UserRow
from auterity_dagster.storage.tables.workflows import ApprovalRow, ExecutionRow, WorkflowRow

Outcome = Literal["approved", "rejected"]
PAGE_LIMIT = 200


async def list_open(
    session: AsyncSession, principal: Principal, *, workflow: str | None = None, limit: int = PAGE_LIMIT
) -> Sequence[ApprovalRow]:
    """Return what this principal may decide, of one workflow or of all, oldest first."""
    query = select(ApprovalRow).where(ApprovalRow.state == "open")
    if workflow is not None:
        own = select(ExecutionRow.id).join(
            WorkflowRow,
            (WorkflowRow.organization_id == ExecutionRow.organization_id)
            & (WorkflowRow.id == ExecutionRow.workflow_id),
        )
        query = query.where(ApprovalRow.execution_id.in_(own.where(WorkflowRow.key == workflow)))
    rows = await session.scalars(query.order_by(ApprovalRow.created_at, ApprovalRow.id))
    own = [row for row in rows if may_decide(principal, row.role) and principal.may_see(row.dealership_id)]
    return own[:limit]


async def find(session: AsyncSession, principal: Principal, approval_id: UUID) -> ApprovalRow:
    """Return one approval. Raises `NotFound`, also for a dealership the principal does not see."""
    row = await session.scalar(select(ApprovalRow).where(ApprovalRow.id == approval_id))
    if row is None or not principal.may_see(row.dealership_id):
        raise NotFound("there is no such approval")
    return row


async def decide(
    session: AsyncSession,
    approval_id: UUID,
    *,
    principal: Principal,
    outcome: Outcome,
    edited: Mapping[str, str],
    now: datetime,
) -> ApprovalRow:
    """Record a decision. Raises `Conflict` with the winner's name and time if somebody was first.

    `NotPermitted` for somebody who has not the role, or who decided the approval that this one is a second to.

    The execution's row is locked before the approval's: a worker that is about to park sees the decision or is seen
    waiting by it, so none is slept through.
    """
    approval = await find(session, principal, approval_id)
    require_decider(principal, approval.role)
    await _require_another_person(session, approval, principal)
    final = final_texts(approval.form["fields"], edited)
    own_execution = (
        ExecutionRow.organization_id == principal.organization_id,
        ExecutionRow.id == approval.execution_id,
    )
    await session.execute(select(ExecutionRow.id).where(*own_execution).with_for_update())
    name = await session.scalar(select(UserRow.name).where(UserRow.id == principal.id)) or "somebody"
    decided = await session.scalar(
        update(ApprovalRow)
        .where(
            ApprovalRow.organization_id == principal.organization_id,
            ApprovalRow.id == approval_id,
            ApprovalRow.state == "open",
            ApprovalRow.expires_at > now,
        )
        .values(state=outcome, final=dict(final), decided_by=principal.id, decided_by_name=name, decided_at=now)
        .returning(ApprovalRow)
        .execution_options(populate_existing=True)
    )
    if decided is None:
        raise await _too_late(session, approval_id)
    woken = await session.scalar(
        update(ExecutionRow)
        .where(*own_execution, ExecutionRow.state == "waiting")
        .values(state="queued", ready_at=now)
        .returning(ExecutionRow.id)
    )
    await _announce(session, decided, is_woken=woken is not None, now=now)
    await audit.append(
        session,
        actor=principal,
        action=f"approval.{outcome}",
        subject=f"approval/{approval_id}",
        details={"execution_id": str(decided.execution_id), "is_edited": bool(edited)},
    )
    return decided


async def _require_another_person(session: AsyncSession, approval: ApprovalRow, principal: Principal) -> None:
    path = approval.form.get("other_than")
    if path is None:
        return
    decided_by = await session.scalar(
        select(ApprovalRow.decided_by).where(
            ApprovalRow.execution_id == approval.execution_id, ApprovalRow.path == path
        )
    )
    if decided_by == principal.id:
        raise NotPermitted("you decided the first approval: this one needs another person", approval=path)


async def _too_late(session: AsyncSession, approval_id: UUID) -> Conflict:
    row = (
        await session.scalars(
            select(ApprovalRow).where(ApprovalRow.id == approval_id).execution_options(populate_existing=True)
        )
    ).one()
    if row.decided_by_name is None or row.decided_at is None:
        return Conflict("this approval is no longer open", code="approval_closed", state=row.state)
    at = row.decided_at.isoformat()
    return Conflict(
        f"{row.decided_by_name} has {row.state} this at {at}",
        code="already_decided",
        decided_by=row.decided_by_name,
        decided_at=at,
        state=row.state,
    )


async def _announce(session: AsyncSession, row: ApprovalRow, *, is_woken: bool, now: datetime) -> None:
    common = {"execution_id": str(row.execution_id), "dealership_id": str(row.dealership_id), "at": now.isoformat()}
    shown = {**common, "approval_id": str(row.id), "decided_by": row.decided_by_name}
    decided = announcement(row.organization_id, topic=APPROVALS, kind=f"approval.{row.state}", payload=shown, now=now)
    await session.execute(decided)
    if is_woken:
        for topic in (EXECUTIONS, execution_topic(row.execution_id)):
            payload = {**common, "state": "queued"}
            await session.execute(
                announcement(row.organization_id, topic=topic, kind="execution.moved", payload=payload, now=now)
            )
