"""What the gateway's process shows of itself, composed: metrics around its ports, spans, and the operator's port."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from auterity_dagster.relaycore.draining import Drain
from auterity_dagster.relaycore.ports import Ledger, RequestLog
from auterity_dagster.relaycore.shedding import Places
from auterity_dagster.serving.relaycore.catalog import RefreshingCatalog
from auterity_dagster.serving.relaycore.measured import MeasuredLedger, MeasuredLog
from auterity_dagster.serving.relaycore.metrics import Metrics
from auterity_dagster.serving.relaycore.operations_server import serving_operations
from auterity_dagster.serving.relaycore.spans import TracedLog, otlp_exporter
from auterity_dagster.settings import GatewaySettings
from auterity_dagster.storage.repositories.ledger import PostgresLedger


@dataclass(frozen=True, slots=True)
class Observed:
    """The ports as the gateway is to use them, so that what passes is measured."""

    metrics: Metrics
    ledger: Ledger
    log: RequestLog


async def observed(
    stack: AsyncExitStack,
    settings: GatewaySettings,
    *,
    catalog: RefreshingCatalog,
    ledger: Ledger,
    log: RequestLog,
    places: Places,
    drain: Drain,
) -> Observed:
    """Put metrics around the ports, and spans where a collector is configured; open the operator's port."""
    metrics = Metrics(deployments=lambda: {one.id for one in catalog.platform_policy().deployments})
    metrics.gauge("active_calls", "Calls under way in this process.", lambda: places.active)
    refused = "Steering policies and price lists that this process refused; the last good one serves."
    metrics.counter("policy_load_failures", refused, lambda: catalog.load_failures)
    if isinstance(ledger, PostgresLedger):
        metrics.gauge("settlements_waiting", "Ends of attempts that are not booked yet.", lambda: ledger.unbooked)
    if settings.gateway_otlp_endpoint is not None:
        log = traced = TracedLog(log, otlp_exporter(settings.gateway_otlp_endpoint))
        stack.push_async_callback(asyncio.to_thread, traced.close)
    if settings.gateway_metrics_port is not None:
        await stack.enter_async_context(
            serving_operations(metrics, drain, host=settings.gateway_metrics_host, port=settings.gateway_metrics_port)
        )
    return Observed(metrics, MeasuredLedger(ledger, metrics), MeasuredLog(log, metrics))
