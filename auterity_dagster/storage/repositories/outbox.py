"""Rows to publish, written in the transaction they tell of."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Insert, insert

from auterity_dagster.storage.tables.workflows import OutboxRow

EXECUTIONS = "executions"
APPROVALS = "approvals"
BUDGETS = "budgets"


def execution_topic(execution_id: UUID) -> str:
    """The topic of one execution's events."""
    return f"execution/{execution_id}"


def announcement(organization_id: UUID, *, topic: str, kind: str, payload: Mapping[str, Any], now: datetime) -> Insert:
    """Return the statement that queues one announcement; the relay numbers it after the commit."""
    return insert(OutboxRow).values(
        organization_id=organization_id, id=uuid4(), topic=topic, type=kind, payload=dict(payload), created_at=now
    )
