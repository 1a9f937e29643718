"""What a budget's windows spent hour by hour or day by day: the past that a forecast draws from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, any_, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.budget import Scope
from auterity_dagster.relaycore.forecast import LOOK_BACK, Grain
from auterity_dagster.storage.repositories.budgets import read_budget
from auterity_dagster.storage.tables.ledger import BudgetRow, BudgetWindowRow, HoldRow, UsageRow


@dataclass(frozen=True, slots=True)
class Spending:
    """What was booked by the beginning of each whole hour or day; `known_from` is the first booking of all."""

    by_beginning: Mapping[datetime, NanoUsd]
    known_from: datetime | None


async def open_windows(
    session: AsyncSession, budget_id: UUID, *, value: str | None, limit: int
) -> tuple[BudgetRow, Sequence[BudgetWindowRow], datetime]:
    """Return the budget, its windows that are open (of one value, or those that spent most), and the database's now.

    Raises `NotFound`.
    """
    budget = await read_budget(session, budget_id)
    now = (await session.execute(select(func.now()))).scalar_one()
    wanted = select(BudgetWindowRow).where(
        BudgetWindowRow.budget_id == budget_id,
        BudgetWindowRow.closes_at.is_(None) | (BudgetWindowRow.closes_at > func.now()),
    )
    if value is not None:
        wanted = wanted.where(BudgetWindowRow.value == value)
    most = wanted.order_by(BudgetWindowRow.settled_nusd.desc(), BudgetWindowRow.value).limit(limit)
    return budget, (await session.scalars(most)).all(), now


async def spending(
    session: AsyncSession, scope: Scope, value: str, *, grain: Grain, time_zone: str, now: datetime
) -> Spending:
    """Return what calls that a budget of this scope and value binds were booked at, before the present hour or day.

    Also from before the budget was made. Calls count when they ended; a later correction counts where its call does.
    """
    since = (now - LOOK_BACK[grain]).date()
    bound = _bound(scope, value)
    begins = func.date_trunc(grain, UsageRow.happened_at, time_zone).label("begins")
    booked = (
        select(begins, UsageRow.cost_nusd)
        .where(bound, UsageRow.day >= since, UsageRow.happened_at < func.date_trunc(grain, now, time_zone))
        .subquery()
    )
    rows = await session.execute(select(booked.c.begins, func.sum(booked.c.cost_nusd)).group_by(booked.c.begins))
    first = select(UsageRow.happened_at).where(bound).order_by(UsageRow.day, UsageRow.happened_at).limit(1)
    return Spending({at: int(amount) for at, amount in rows}, await session.scalar(first))


def _bound(scope: Scope, value: str) -> ColumnElement[bool]:
    """Only calls that the budget binds; the row security of the session keeps to its organization."""
    match scope:
        case Scope.ORGANIZATION:
            return true()
        case Scope.DEALERSHIP:
            return UsageRow.dealership_id == UUID(value)
        case Scope.KEY:
            return UsageRow.key_id == UUID(value)
        case Scope.PURPOSE:
            return UsageRow.purpose == value
        case Scope.DEPLOYMENT:
            return UsageRow.deployment_id == value
        case Scope.USER:
            return _of_hold(HoldRow.user_id == UUID(value))
        case Scope.TAG:
            return _of_hold(any_(HoldRow.tags) == value)


def _of_hold(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """What only the hold of a call knows."""
    of_call = (HoldRow.organization_id == UsageRow.organization_id) & (HoldRow.id == UsageRow.id)
    return select(HoldRow.id).where(of_call, condition).exists()
