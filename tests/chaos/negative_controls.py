"""Broken implementations of the ports: on each of them the checkers must fail, or they prove nothing."""

import asyncio
from dataclasses import replace
from uuid import uuid4

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.relaycore.ports import Hold, HoldRequest, Ledger, Settlement, UsageRecord
from auterity_dagster.relaycore.pricing import Price, Usage
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import idempotency
from auterity_dagster.storage.repositories.ledger_holding import idempotency_running
from auterity_dagster.storage.tables.ledger import BudgetWindowRow, IdempotencyRow
from tests.fakes.price_cases import tier_of

DROP_CHECK = "ALTER TABLE budget_window DROP CONSTRAINT ck_budget_window_within_cap"
"""With it in place PostgreSQL itself refuses what the control tries to do."""


def cost_in_floats(usage: Usage, price: Price) -> int:
    """P-6's control: dollars as floats, rounded at the end."""
    rates = tier_of(usage.prompt_tokens, price)
    classes = (
        (usage.uncached_tokens, rates.input),
        (usage.completion_tokens, rates.output),
        (usage.cache_read_tokens, rates.cache_read),
        (usage.cache_write_5m_tokens, rates.cache_write_5m),
        (usage.cache_write_1h_tokens, rates.cache_write_1h),
    )
    return round(sum(tokens / 1e6 * ((rate or 0) / 1e9) for tokens, rate in classes) * 1e9)


class ExtendsWithoutHoldingLedger:
    """The control of slices: tells the provider of more tokens than it holds money for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def hold(self, request: HoldRequest) -> Hold:
        return await self._ledger.hold(request)

    async def extend(self, hold: Hold, *, more_nusd: int) -> Hold | None:
        return hold

    async def settle(self, settlement: Settlement) -> None:
        await self._ledger.settle(settlement)

    async def void(self, hold: Hold, usage: UsageRecord) -> None:
        await self._ledger.void(hold, usage)

    async def leave_unknown(self, hold: Hold, usage: UsageRecord) -> None:
        await self._ledger.leave_unknown(hold, usage)


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

    async def extend(self, hold: Hold, *, more_nusd: int) -> Hold | None:
        await self._move(hold.request, held_nusd=more_nusd, settled_nusd=0)
        return replace(hold, request=replace(hold.request, amount_nusd=hold.request.amount_nusd + more_nusd))

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


class OnlyWhatTheCallerGotLedger:
    """P-2's control: what did not arrive whole is taken to have cost nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def hold(self, request: HoldRequest) -> Hold:
        return await self._ledger.hold(request)

    async def extend(self, hold: Hold, *, more_nusd: int) -> Hold | None:
        return await self._ledger.extend(hold, more_nusd=more_nusd)

    async def settle(self, settlement: Settlement) -> None:
        await self._ledger.settle(settlement)

    async def void(self, hold: Hold, usage: UsageRecord) -> None:
        await self._ledger.void(hold, usage)

    async def leave_unknown(self, hold: Hold, usage: UsageRecord) -> None:
        await self._ledger.void(hold, usage)


class CheckThenInsertLedger(OnlyWhatTheCallerGotLedger):
    """P-5's control: looks whether the key is free, holds, and writes the key down afterwards."""

    def __init__(self, ledger: Ledger, database: Database) -> None:
        super().__init__(ledger)
        self._database = database

    async def hold(self, request: HoldRequest) -> Hold:
        claim = request.claim
        if claim is None:
            return await self._ledger.hold(request)
        async with self._database.begin(request.organization_id) as session:
            if await idempotency.find(session, claim.key_digest) is not None:
                raise idempotency_running()
        hold = await self._ledger.hold(replace(request, claim=None))
        async with self._database.begin(request.organization_id) as session:
            row = {
                "organization_id": request.organization_id,
                "key_digest": claim.key_digest,
                "id": claim.id,
                "request_digest": claim.request_digest,
                "request_id": request.request_id,
                "hold_id": hold.id,
                "expires_at": func.now() + text("interval '1 day'"),
            }
            await session.execute(insert(IdempotencyRow).values(row).on_conflict_do_nothing())
        return hold
