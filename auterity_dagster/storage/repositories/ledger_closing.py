"""Closing holds in batches, off the caller's path: settled, voided or unknown, with entries and usage row at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import orjson
import psycopg
import structlog

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.ports import UsageRecord
from auterity_dagster.storage.group_commit import GroupCommit
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.ledger_connections import AWAY, LedgerConnections

_log = structlog.get_logger(__name__)
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
LINGER_S = 0.02
"""Nobody waits for a closing: a moment later it shares its transaction with others."""

ClosedState = Literal["settled", "voided", "unknown"]
ClosedBy = Literal["caller", "reaper"]


@dataclass(frozen=True, slots=True)
class Closing:
    """How one hold ends. Without a usage record no usage row is written: nothing was ever sent."""

    hold_id: UUID
    state: ClosedState
    cost_nusd: NanoUsd
    usage: UsageRecord | None


class ClosingQueue:
    """Books closings, and keeps them in memory while PostgreSQL is away: at most `limit` of them.

    What does not fit, or is lost with the process, is closed by the reaper as unknown: high for a while, never low.
    """

    def __init__(self, connections: LedgerConnections, *, batch_limit: int, limit: int) -> None:
        self._connections = connections
        self._limit = limit
        self.batches = GroupCommit[Closing](self._book, limit=batch_limit, linger_s=LINGER_S)

    def submit(self, organization_id: UUID, closing: Closing) -> None:
        """Queue one; returns at once."""
        if self.batches.pending >= self._limit:
            _log.error("ledger.queue_full", hold_id=str(closing.hold_id), then="the reaper closes it as unknown")
            return
        self.batches.submit(organization_id, closing)

    async def _book(self, organization_id: UUID, batch: list[Closing]) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                await close_holds(self._connections, organization_id, batch, closed_by="caller")
            except AWAY:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            except psycopg.Error:
                if len(batch) == 1:
                    _log.exception("ledger.closing_refused", hold_id=str(batch[0].hold_id), then="the reaper will try")
                    return
                for closing in batch:
                    await self._book(organization_id, [closing])
                return
            else:
                return


async def close_holds(
    connections: LedgerConnections, organization_id: UUID, closings: Sequence[Closing], *, closed_by: ClosedBy
) -> int:
    """Close those that are still held (or correct what the reaper booked), in one transaction; return how many.

    Told the same thing twice it does nothing the second time. Raises one of `AWAY`.
    """
    once = {closing.hold_id: closing for closing in reversed(closings)}
    parameters = {
        "organization_id": organization_id,
        "hold_ids": list(once),
        "closings": orjson.dumps([_closing_record(closing) for closing in once.values()]),
        "closed_by": closed_by,
    }
    ((count, over_bound),) = (await connections.transaction(organization_id, (statements.CLOSE, parameters)))[0]
    for request_id in over_bound:
        _log.error("ledger.billed_above_hold", request_id=str(request_id), then="the key is frozen")
    return int(count)


def _closing_record(closing: Closing) -> dict[str, object]:
    record: dict[str, object] = {"id": closing.hold_id, "state": closing.state, "cost_nusd": closing.cost_nusd}
    if closing.usage is None:
        return record
    used, tokens = closing.usage, closing.usage.usage
    record |= {
        "outcome": used.outcome,
        "task": used.task,
        "latency_ms": used.latency_ms,
        "first_token_ms": used.first_token_ms,
        "is_streamed": used.is_streamed,
        "provider_request_id": used.provider_request_id,
        "policy_digest": used.policy_digest,
        "rule": used.rule,
    }
    if tokens is not None:
        record |= {
            "prompt_tokens": tokens.prompt_tokens,
            "cache_read_tokens": tokens.cache_read_tokens,
            "cache_write_5m_tokens": tokens.cache_write_5m_tokens,
            "cache_write_1h_tokens": tokens.cache_write_1h_tokens,
            "completion_tokens": tokens.completion_tokens,
        }
    return record
