"""Broken implementations of the ports: on each of them the checkers must fail, or they prove nothing."""

import asyncio
from uuid import uuid4

from sqlalchemy import select, text, update

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.relaycore.ports import Hold, HoldRequest, Settlement, UsageRecord
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.tables.ledger import BudgetWindowRow

DROP_CHECK = "ALTER TABLE budget_window DROP CONSTRAINT ck_budget_window_within_cap"
"""With it in place PostgreSQL itself refuses what the control tries to do."""


class ReadThenWriteLedger:
    """P-1's control: looks whether there is room, then takes it, in two transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, request: HoldRequest) -> Hold:
        async with self._database.begin(request.organization_id) as session:
            windows = (await session.scalars(select(BudgetWindowRow).where(BudgetWindowRow.is_hard))).all()
        if any(one.settled_nusd + one.held_nusd + request.amount_nusd > one.cap_nusd for one in windows):
            raise BudgetExceeded("no room")
        await asyncio.sleep(0)
        await self._move(request, held_nusd=request.amount_nusd, settled_nusd=0)
        return Hold(id=uuid4(), request=request, budget_left_nusd=None)

    async def settle(self, settlement: Settlement) -> None:
        request = settlement.hold.request
        await self._move(request, held_nusd=-request.amount_nusd, settled_nusd=settlement.cost_nusd)

    async def void(self, hold: Hold, usage: UsageRecord) -> None:
        await self._move(hold.request, held_nusd=-hold.request.amount_nusd, settled_nusd=0)

    async def leave_unknown(self, hold: Hold, usage: UsageRecord) -> None:
        await self._move(hold.request, held_nusd=-hold.request.amount_nusd, settled_nusd=hold.request.amount_nusd)

    async def _move(self, request: HoldRequest, *, held_nusd: int, settled_nusd: int) -> None:
        async with self._database.begin(request.organization_id) as session:
            await session.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await session.execute(
                update(BudgetWindowRow)
                .where(BudgetWindowRow.is_hard)
                .values(
                    held_nusd=BudgetWindowRow.held_nusd + held_nusd,
                    settled_nusd=BudgetWindowRow.settled_nusd + settled_nusd,
                )
            )
