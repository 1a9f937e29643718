"""The ledger on PostgreSQL: `relaycore.ports.Ledger` by group commit, with its reaper."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from auterity_dagster.background import end_tasks
from auterity_dagster.errors import Invalid
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.ports import Hold, HoldRequest, Settlement, UsageRecord
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_closing import Closing, ClosingQueue, close_holds
from auterity_dagster.storage.repositories.ledger_connections import AWAY, LedgerConnections
from auterity_dagster.storage.repositories.ledger_extending import extended
from auterity_dagster.storage.repositories.ledger_holding import Holding

_log = structlog.get_logger(__name__)
LARGEST_HOLD_NUSD = 10**15
"""A million dollars for one attempt: beyond it a sum of holds might leave a 64-bit column."""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """How the ledger batches and waits. An unreachable PostgreSQL is noticed within `connect_within_s`."""

    connections: int = 8
    batch_limit: int = 32
    connect_within_s: float = 0.25
    answer_within_s: float = 2.0
    queued_closings: int = 10_000
    reap_every_s: float = 5.0
    drain_within_s: float = 30.0


class PostgresLedger:
    """Holds and closings of this process; other processes have theirs, and the rows keep all of them honest."""

    def __init__(self, connections: LedgerConnections, settings: LedgerSettings) -> None:
        self._settings = settings
        self._connections = connections
        self._closing = ClosingQueue(
            self._connections, batch_limit=settings.batch_limit, limit=settings.queued_closings
        )
        self._holding = Holding(self._connections, batch_limit=settings.batch_limit, give_back=self._give_back)

    @property
    def unbooked(self) -> int:
        """How many closings wait to be booked: a metric, near 0 unless PostgreSQL is away."""
        return self._closing.batches.pending

    async def warm(self) -> None:
        """Connect before the first caller waits for it."""
        await self._connections.warm()

    async def hold(self, request: HoldRequest) -> Hold:
        if not 0 <= request.amount_nusd <= LARGEST_HOLD_NUSD:
            raise Invalid("One attempt may cost at most $1,000,000; ask for fewer tokens", field="max_tokens")
        return await self._holding.hold(request)

    async def extend(self, hold: Hold, *, more_nusd: NanoUsd) -> Hold | None:
        return await extended(self._connections, hold, more_nusd=more_nusd)

    async def settle(self, settlement: Settlement) -> None:
        closing = Closing(settlement.hold.id, "settled", settlement.cost_nusd, settlement.usage)
        self._closing.submit(settlement.hold.request.organization_id, closing)

    async def void(self, hold: Hold, usage: UsageRecord) -> None:
        self._closing.submit(hold.request.organization_id, Closing(hold.id, "voided", 0, usage))

    async def leave_unknown(self, hold: Hold, usage: UsageRecord) -> None:
        self._closing.submit(hold.request.organization_id, Closing(hold.id, "unknown", 0, usage))

    async def drain(self) -> bool:
        """Wait until every closing is booked; False when that takes longer than allowed."""
        return await self._closing.batches.drain(within_s=self._settings.drain_within_s)

    async def drain_holds(self) -> bool:
        """Wait until no hold is under way, whoever still waits for it."""
        return await self._holding.batches.drain(within_s=self._settings.answer_within_s)

    async def reap(self) -> int:
        """Close every expired hold: voided if its call was never sent, else unknown at the full amount."""
        count = 0
        for (organization_id,) in await self._connections.read(statements.ORGANIZATIONS_WITH_EXPIRED_HOLDS):
            (expired,) = await self._connections.transaction(
                organization_id, (statements.EXPIRED_HOLDS, {"organization_id": organization_id})
            )
            closings = [
                Closing(hold_id, "unknown" if is_dispatched else "voided", 0, _EXPIRED if is_dispatched else None)
                for hold_id, is_dispatched in expired
            ]
            count += await close_holds(self._connections, organization_id, closings, closed_by="reaper")
        return count

    async def reap_for_ever(self) -> None:
        """Reap at the set interval; a PostgreSQL that is away is tried again at the next."""
        while True:
            await asyncio.sleep(self._settings.reap_every_s)
            try:
                closed = await self.reap()
            except (*AWAY, psycopg.Error) as error:
                _log.warning("ledger.reaper_failed", error=str(error))
            else:
                if closed:
                    _log.warning("ledger.expired_holds_closed", holds=closed)

    async def close(self) -> None:
        """Stop and close the connections; drain first, or the reaper closes what was still queued."""
        await self.drain_holds()
        await self._holding.batches.stop()
        await self._closing.batches.stop()
        await self._connections.close()

    def _give_back(self, organization_id: UUID, hold_id: UUID) -> None:
        self._closing.submit(organization_id, Closing(hold_id, "voided", 0, None))


_EXPIRED = UsageRecord(
    outcome="expired",
    usage=None,
    latency_ms=0,
    first_token_ms=None,
    is_streamed=False,
    provider_request_id=None,
    task=None,
    policy_digest="",
    rule=None,
)


@asynccontextmanager
async def open_ledger(
    url: str, settings: LedgerSettings | None = None, *, connected: type[LedgerConnections] = LedgerConnections
) -> AsyncGenerator[PostgresLedger]:
    """The process's ledger with its reaper running; at the end it books what is queued and closes its connections."""
    settings = settings or LedgerSettings()
    connections = connected(
        url,
        size=settings.connections,
        connect_within_s=settings.connect_within_s,
        answer_within_s=settings.answer_within_s,
    )
    ledger = PostgresLedger(connections, settings)
    await ledger.warm()
    reaper = asyncio.create_task(ledger.reap_for_ever())
    try:
        yield ledger
    finally:
        await end_tasks([reaper])
        await ledger.drain()
        await ledger.close()
