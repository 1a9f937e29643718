"""Caps that wait for a second person: made by one, approved or turned down by another, or over after a week."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict, NotFound, NotPermitted
from auterity_dagster.money import NanoUsd
from auterity_dagster.storage.repositories import budgets
from auterity_dagster.storage.tables.ledger import BudgetProposalRow, BudgetRow

LASTS = timedelta(days=7)


async def propose(
    session: AsyncSession, budget: BudgetRow, *, cap_nusd: NanoUsd, alert_percents: Sequence[int], by: UUID
) -> BudgetProposalRow:
    """Write down what one person wants. Raises `Conflict` where something waits for this budget already."""
    await _expire(session, budget.id)
    made = await session.scalar(
        insert(BudgetProposalRow)
        .values(
            organization_id=budget.organization_id,
            id=uuid4(),
            budget_id=budget.id,
            version=budget.version,
            cap_nusd=cap_nusd,
            alert_percents=sorted(set(alert_percents)),
            state="waiting",
            proposed_by=by,
            expires_at=func.now() + LASTS,
        )
        .on_conflict_do_nothing()
        .returning(BudgetProposalRow)
    )
    if made is None:
        raise Conflict("A change of this budget waits for a second person already: approve or reject it first")
    return made


async def proposals(session: AsyncSession, budget_id: UUID, *, limit: int) -> Sequence[BudgetProposalRow]:
    """Return a budget's proposals, the newest first. Raises `NotFound`."""
    await budgets.read_budget(session, budget_id)
    await _expire(session, budget_id)
    newest = select(BudgetProposalRow).where(BudgetProposalRow.budget_id == budget_id)
    return (
        await session.scalars(newest.order_by(BudgetProposalRow.proposed_at.desc(), BudgetProposalRow.id).limit(limit))
    ).all()


async def approve(
    session: AsyncSession, budget_id: UUID, proposal_id: UUID, *, version: int, by: UUID
) -> tuple[BudgetProposalRow, BudgetRow]:
    """Change the budget as proposed, on top of the version that both persons read.

    Raises `NotFound`, `NotPermitted` for the person who proposed it, `Conflict` where it waits no more or the budget
    has changed meanwhile.
    """
    proposal = await _waiting(session, budget_id, proposal_id)
    if proposal.proposed_by == by:
        raise NotPermitted("Somebody else must approve what you proposed", code="second_person_needed")
    if proposal.version != version:
        raise Conflict("The budget has changed since this was proposed: reject it and propose again")
    budget = await budgets.change_budget(
        session, budget_id, cap_nusd=proposal.cap_nusd, alert_percents=proposal.alert_percents, version=version
    )
    return await _decided(session, proposal, "approved", by), budget


async def reject(session: AsyncSession, budget_id: UUID, proposal_id: UUID, *, by: UUID) -> BudgetProposalRow:
    """Let the budget stay as it is; who proposed it may do that too. Raises `NotFound` and `Conflict`."""
    return await _decided(session, await _waiting(session, budget_id, proposal_id), "rejected", by)


async def _waiting(session: AsyncSession, budget_id: UUID, proposal_id: UUID) -> BudgetProposalRow:
    await _expire(session, budget_id)
    proposal = await session.scalar(
        select(BudgetProposalRow)
        .where(BudgetProposalRow.id == proposal_id, BudgetProposalRow.budget_id == budget_id)
        .with_for_update()
    )
    if proposal is None:
        raise NotFound("There is no such proposal")
    if proposal.state != "waiting":
        raise Conflict(f"The proposal is {proposal.state}")
    return proposal


async def _decided(session: AsyncSession, proposal: BudgetProposalRow, state: str, by: UUID) -> BudgetProposalRow:
    decided = await session.scalar(
        update(BudgetProposalRow)
        .where(BudgetProposalRow.id == proposal.id)
        .values(state=state, decided_by=by, decided_at=func.now())
        .returning(BudgetProposalRow)
        .execution_options(populate_existing=True)
    )
    assert decided is not None
    return decided


async def _expire(session: AsyncSession, budget_id: UUID) -> None:
    await session.execute(
        update(BudgetProposalRow)
        .where(
            BudgetProposalRow.budget_id == budget_id,
            BudgetProposalRow.state == "waiting",
            BudgetProposalRow.expires_at <= func.now(),
        )
        .values(state="expired", decided_at=func.now())
    )
