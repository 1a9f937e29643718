"""Usage rows as the ledger writes them, for tests of what is made of them."""

from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID, uuid4

from auterity_dagster.storage.tables.ledger import UsageRow


def usage_row(organization_id: UUID, day: date, **changes: Any) -> UsageRow:
    """One settled attempt; `changes` are columns."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "request_id": uuid4(),
        "attempt": 1,
        "dealership_id": None,
        "key_id": uuid4(),
        "purpose": "workflow",
        "task": "lead_reply",
        "deployment_id": "sandbox-large",
        "price_key": "sandbox/large",
        "price_digest": "digest",
        "prompt_tokens": 400,
        "cache_read_tokens": 0,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "completion_tokens": 100,
        "cost_nusd": 8_000_000,
        "outcome": "ok",
        "latency_ms": 900,
        "first_token_ms": None,
        "is_streamed": False,
        "provider_request_id": None,
        "policy_digest": "policy",
        "rule": "default",
        "happened_at": datetime.combine(day, time(12), tzinfo=UTC),
    }
    return UsageRow(organization_id=organization_id, day=day, **{**values, **changes})
