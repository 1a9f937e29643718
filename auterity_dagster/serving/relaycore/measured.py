"""Ports that measure what passes through them: the ledger, and the log of finished requests."""

import time

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.ports import (
    Hold,
    HoldRequest,
    Ledger,
    RequestLog,
    RequestRecord,
    Settlement,
    UsageRecord,
)
from auterity_dagster.serving.relaycore.metrics import OTHER, Metrics


class MeasuredLedger:
    """A ledger that counts holds, attempts, tokens and money on their way to another."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger, self._metrics = ledger, metrics

    async def hold(self, request: HoldRequest) -> Hold:
        asked_s = time.perf_counter()
        try:
            hold = await self._ledger.hold(request)
        except BudgetExceeded as error:
            self._metrics.budget_refused.of(str(error.details.get("scope", OTHER))).inc()
            raise
        self._metrics.hold_wait.observe(time.perf_counter() - asked_s)
        return hold

    async def extend(self, hold: Hold, *, more_nusd: NanoUsd) -> Hold | None:
        return await self._ledger.extend(hold, more_nusd=more_nusd)

    async def settle(self, settlement: Settlement) -> None:
        metrics, hold, usage = self._metrics, settlement.hold.request, settlement.usage.usage
        self._note_attempt(hold, settlement.usage)
        metrics.cost_nusd.of(hold.deployment_id, hold.purpose).inc(settlement.cost_nusd)
        metrics.overage_nusd.inc(max(settlement.cost_nusd - hold.amount_nusd, 0))
        if usage is not None:
            cache_write_tokens = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
            metrics.tokens.of(hold.deployment_id, "input").inc(usage.uncached_tokens)
            metrics.tokens.of(hold.deployment_id, "output").inc(usage.completion_tokens)
            if usage.cache_read_tokens or cache_write_tokens:
                metrics.tokens.of(hold.deployment_id, "cache_read").inc(usage.cache_read_tokens)
                metrics.tokens.of(hold.deployment_id, "cache_write").inc(cache_write_tokens)
        await self._ledger.settle(settlement)

    async def void(self, hold: Hold, usage: UsageRecord) -> None:
        self._note_attempt(hold.request, usage)
        await self._ledger.void(hold, usage)

    async def leave_unknown(self, hold: Hold, usage: UsageRecord) -> None:
        self._note_attempt(hold.request, usage)
        self._metrics.unknown_nusd.inc(hold.request.amount_nusd)
        await self._ledger.leave_unknown(hold, usage)

    def _note_attempt(self, hold: HoldRequest, usage: UsageRecord) -> None:
        self._metrics.attempts.of(hold.deployment_id, usage.outcome).inc()
        if usage.first_token_ms is not None:
            self._metrics.first_token.of(hold.deployment_id).observe(usage.first_token_ms / 1000)


class MeasuredLog:
    """A log of finished requests that counts and times them on their way to another."""

    def __init__(self, log: RequestLog, metrics: Metrics) -> None:
        self._log, self._metrics = log, metrics

    def add(self, record: RequestRecord) -> None:
        metrics, request = self._metrics, record.request
        metrics.requests.of(request.wire, record.deployment_id or OTHER, record.outcome).inc()
        metrics.request_duration.of("stream" if request.is_stream else "whole").observe(record.latency_ms / 1000)
        if not request.is_stream:
            called_ms = sum(one.latency_ms for one in record.attempts)
            metrics.overhead.observe(max(record.latency_ms - called_ms, 0) / 1000)
        if record.cache is not None:
            metrics.cache_lookups.of(record.cache).inc()
        self._log.add(record)
