"""Daily allowances of rules, kept as hard budgets of the ledger and brought to what the policy says."""

import time
from collections.abc import Callable
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import Conflict
from auterity_dagster.relaycore.allowance import Allowance
from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.budgets import NewBudget, change_budget, create_budget
from auterity_dagster.storage.tables.ledger import BudgetRow

ENSURED_S = 60.0
"""After so long it is looked again whether the budget is there and says the same."""

_log = structlog.get_logger(__name__)


class PostgresAllowances:
    """The allowances of this installation. Whether a hold has room in one is the ledger's to say."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.monotonic) -> None:
        self._database, self._now = database, now
        self._until_s: dict[tuple[UUID, Allowance], float] = {}

    async def ensure(self, organization_id: UUID, allowance: Allowance) -> bool:
        place = (organization_id, allowance)
        if self._until_s.get(place, 0) > self._now():
            return True
        try:
            async with self._database.begin(organization_id) as session:
                await _put(session, organization_id, allowance)
        except Conflict:
            _log.info("allowance_changed_meanwhile", allowance=allowance.value)
            return False
        except (DBAPIError, PoolTimeout) as error:
            _log.warning("allowance_not_ensured", allowance=allowance.value, reason=type(error).__name__)
            return False
        self._until_s[place] = self._now() + ENSURED_S
        return True


async def _put(session: AsyncSession, organization_id: UUID, allowance: Allowance) -> None:
    """Make the budget, or give it the policy's cap. Raises `Conflict` where another process is doing so."""
    known = await session.scalar(
        select(BudgetRow).where(
            BudgetRow.scope == Scope.PURPOSE.value,
            BudgetRow.value == allowance.value,
            BudgetRow.name == allowance.name,
            BudgetRow.archived_at.is_(None),
        )
    )
    if known is None:
        wanted = NewBudget(
            name=allowance.name,
            scope=Scope.PURPOSE,
            value=allowance.value,
            period=Period.DAY,
            time_zone=allowance.time_zone,
            cap_nusd=allowance.cap_nusd,
            enforcement=Enforcement.HARD,
            alert_percents=(),
        )
        await create_budget(session, organization_id, wanted)
    elif known.cap_nusd != allowance.cap_nusd:
        await change_budget(session, known.id, cap_nusd=allowance.cap_nusd, alert_percents=(), version=known.version)
