"""Telling people that a budget has reached a share of its cap: an outbox event and an audit entry, once each."""

import asyncio
from uuid import UUID

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.outbox import BUDGETS, announcement
from auterity_dagster.storage.tables.ledger import BudgetAlertRow, BudgetRow, BudgetWindowRow

EVERY_S = 5.0
BATCH = 100
ORGANIZATIONS = text("SELECT * FROM organizations_with_new_budget_alerts()")

_log = structlog.get_logger(__name__)


async def announce_for_ever(database: Database) -> None:
    """Announce what is new every few seconds; a PostgreSQL that is away is tried again."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await announce(database)
        except (DBAPIError, PoolTimeout) as error:
            _log.warning("budget_alerts.not_announced", error=type(error).__name__)


async def announce(database: Database) -> int:
    """Announce every alert that nobody has announced, in any organization; return how many there were."""
    async with database.begin_without_organization() as session:
        organization_ids = list(await session.scalars(ORGANIZATIONS))
    count = 0
    for organization_id in organization_ids:
        async with database.begin(organization_id) as session:
            count += await _announce_one_organizations(session, organization_id)
    return count


async def _announce_one_organizations(session: AsyncSession, organization_id: UUID) -> int:
    """Mark and tell in one transaction; rows that another process is at are left to it."""
    alerts = (
        await session.execute(
            select(BudgetAlertRow, BudgetWindowRow, BudgetRow)
            .join(BudgetWindowRow, BudgetWindowRow.id == BudgetAlertRow.window_id)
            .join(BudgetRow, BudgetRow.id == BudgetWindowRow.budget_id)
            .where(BudgetAlertRow.announced_at.is_(None))
            .order_by(BudgetAlertRow.crossed_at, BudgetAlertRow.window_id, BudgetAlertRow.percent)
            .limit(BATCH)
            .with_for_update(of=BudgetAlertRow, skip_locked=True)
        )
    ).all()
    now = await session.scalar(select(func.clock_timestamp()))
    assert now is not None
    for alert, window, budget in alerts:
        alert.announced_at = now
        payload = {
            "budget_id": str(budget.id),
            "name": budget.name,
            "window_id": str(window.id),
            "value": window.value,
            "opens_at": window.opens_at.isoformat(),
            "percent": alert.percent,
            "settled_nusd": alert.settled_nusd,
            "cap_nusd": alert.cap_nusd,
        }
        kind = "budget.alert"
        await session.execute(announcement(organization_id, topic=BUDGETS, kind=kind, payload=payload, now=now))
    await session.flush()
    for alert, window, budget in alerts:
        figures = {
            "window_id": str(window.id),
            "percent": alert.percent,
            "settled_nusd": alert.settled_nusd,
            "cap_nusd": alert.cap_nusd,
        }
        await audit.append(session, actor=None, action="budget.alert", subject=f"budget/{budget.id}", details=figures)
    return len(alerts)
