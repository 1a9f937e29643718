"""Usage rows of answers that were given again: no hold stands behind them, and they cost nothing."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.relaycore.ports import RequestRecord
from auterity_dagster.storage.tables.ledger import UsageRow

CACHE_HIT = "cache_hit"
"""The outcome of such a row. Its tokens are those of the first answer: what a provider would have charged for."""


async def add_hits(session: AsyncSession, records: Sequence[tuple[RequestRecord, Hit]]) -> None:
    """Store one row for each; none is written twice."""
    if records:
        await session.execute(insert(UsageRow).on_conflict_do_nothing(), [_row(*one) for one in records])


def _row(record: RequestRecord, hit: Hit) -> dict[str, Any]:
    request, step, usage = record.request, hit.step, hit.usage
    return {
        "organization_id": request.caller.organization_id,
        "day": record.received_at.date(),
        "id": request.id,
        "request_id": request.id,
        "attempt": 0,
        "dealership_id": request.caller.dealership_id,
        "key_id": request.caller.key_id,
        "purpose": request.caller.purpose,
        "task": request.task,
        "deployment_id": step.deployment.id,
        "price_key": step.price.key,
        "price_digest": step.price.digest,
        "prompt_tokens": usage.prompt_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost_nusd": hit.cost_nusd,
        "outcome": CACHE_HIT,
        "latency_ms": None,
        "first_token_ms": None,
        "is_streamed": request.is_stream,
        "policy_digest": hit.route.policy_digest,
        "rule": hit.route.rule,
    }
