"""Budgets of an organization: made, changed, listed, with their windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4
from zoneinfo import available_timezones

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict, Invalid, NotFound
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.budget import ALERT_PERCENTS, EVERY_VALUE, Enforcement, Period, Scope
from auterity_dagster.storage.tables.ledger import BudgetRow, BudgetWindowRow

ALL_SPENDING = "All spending"
"""The lifetime record of everything an organization spends; the ledger makes it, nobody else may take the name."""


@dataclass(frozen=True, slots=True)
class NewBudget:
    """A budget to make. `value` is the id or name in the scope that it binds, or `*` for each of them on its own."""

    name: str
    scope: Scope
    value: str
    period: Period
    time_zone: str
    cap_nusd: NanoUsd
    enforcement: Enforcement
    alert_percents: tuple[int, ...] = ALERT_PERCENTS


async def create_budget(session: AsyncSession, organization_id: UUID, wanted: NewBudget) -> BudgetRow:
    """Make a budget; it binds from the next hold on. Raises `Invalid` or `Conflict` when the name is taken."""
    if wanted.time_zone not in available_timezones():
        raise Invalid(f"{wanted.time_zone!r} is not a time zone such as America/Chicago", field="time_zone")
    if wanted.name == ALL_SPENDING:
        raise Invalid(f'The name "{ALL_SPENDING}" belongs to the ledger', field="name")
    is_whole_organization = wanted.scope is Scope.ORGANIZATION
    if is_whole_organization and wanted.value not in (EVERY_VALUE, str(organization_id)):
        raise Invalid("A budget of the organization takes the value *", field="value")
    budget = BudgetRow(
        organization_id=organization_id,
        id=uuid4(),
        name=wanted.name,
        scope=wanted.scope.value,
        value=EVERY_VALUE if is_whole_organization else wanted.value,
        period=wanted.period.value,
        time_zone=wanted.time_zone,
        cap_nusd=wanted.cap_nusd,
        enforcement=wanted.enforcement.value,
        alert_percents=sorted(set(wanted.alert_percents)),
        version=1,
    )
    session.add(budget)
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict(f'There is a budget named "{wanted.name}" already', field="name") from error
    return budget


async def change_budget(
    session: AsyncSession, budget_id: UUID, *, cap_nusd: NanoUsd, alert_percents: Sequence[int], version: int
) -> BudgetRow:
    """Set a budget's cap and alerts in its open windows too; what was spent stays spent.

    A cap below what is used books the difference as overage and admits nothing until the use is below it.
    Raises `NotFound`, or `Conflict` when `version` is not the current one.
    """
    percents = sorted(set(alert_percents))
    budget = await session.scalar(
        update(BudgetRow)
        .where(BudgetRow.id == budget_id, BudgetRow.version == version, BudgetRow.name != ALL_SPENDING)
        .values(cap_nusd=cap_nusd, alert_percents=percents, version=BudgetRow.version + 1)
        .returning(BudgetRow)
    )
    if budget is None:
        if await session.scalar(select(BudgetRow.id).where(BudgetRow.id == budget_id)) is None:
            raise NotFound("There is no such budget")
        raise Conflict("The budget has changed meanwhile: read it again")
    open_windows = (
        select(BudgetWindowRow.id)
        .where(
            BudgetWindowRow.budget_id == budget_id,
            BudgetWindowRow.closes_at.is_(None) | (BudgetWindowRow.closes_at > func.now()),
        )
        .order_by(BudgetWindowRow.id)
        .with_for_update()
    )
    window_ids = (await session.scalars(open_windows)).all()
    used = BudgetWindowRow.settled_nusd + BudgetWindowRow.held_nusd
    await session.execute(
        update(BudgetWindowRow)
        .where(BudgetWindowRow.id.in_(window_ids))
        .values(
            cap_nusd=cap_nusd,
            alert_percents=percents,
            overage_nusd=func.greatest(BudgetWindowRow.overage_nusd, used - cap_nusd),
        )
    )
    return budget


async def read_budget(session: AsyncSession, budget_id: UUID) -> BudgetRow:
    """Return one budget. Raises `NotFound`, also for a foreign one."""
    budget = await session.scalar(select(BudgetRow).where(BudgetRow.id == budget_id))
    if budget is None:
        raise NotFound("There is no such budget")
    return budget


async def budgets(session: AsyncSession) -> Sequence[BudgetRow]:
    """Return the organization's budgets by name."""
    return (
        await session.scalars(select(BudgetRow).where(BudgetRow.archived_at.is_(None)).order_by(BudgetRow.name))
    ).all()


async def windows(session: AsyncSession, budget_id: UUID, *, limit: int) -> Sequence[BudgetWindowRow]:
    """Return a budget's windows, the newest first. Raises `NotFound`."""
    await read_budget(session, budget_id)
    newest = select(BudgetWindowRow).where(BudgetWindowRow.budget_id == budget_id)
    return (
        await session.scalars(newest.order_by(BudgetWindowRow.opens_at.desc(), BudgetWindowRow.value).limit(limit))
    ).all()
