"""An announcement as a webhook carries it: CloudEvents, its subject, and when one attempt follows another."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

Topic = Literal["executions", "steps", "approvals", "leads", "inbound", "messages"]

DELAYS = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 7200, 21_600))
"""Between the eight attempts: 8.6 hours in all."""
ATTEMPTS = len(DELAYS) + 1
SPREAD = 0.2

_SUBJECTS = (
    ("approval_id", "approvals"),
    ("execution_id", "executions"),
    ("lead_id", "leads"),
    ("inbound_event_id", "inbound"),
    ("contact_id", "contacts"),
)


def subject_of(payload: Mapping[str, Any]) -> str:
    """Return what an event is about; events of one subject arrive in order."""
    for key, plural in _SUBJECTS:
        if key in payload:
            return f"{plural}/{payload[key]}"
    return "organization"


def envelope(
    *, event_id: UUID, organization_id: UUID, kind: str, payload: Mapping[str, Any], position: int, at: datetime
) -> dict[str, Any]:
    """Return CloudEvents 1.0 in JSON; `sequence` rises, also over subjects."""
    dealership_id = payload.get("dealership_id")
    source = f"/dealerships/{dealership_id}" if dealership_id else f"/organizations/{organization_id}"
    return {
        "specversion": "1.0",
        "id": str(event_id),
        "source": source,
        "type": f"com.auterity.{kind}",
        "subject": subject_of(payload),
        "time": at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "organizationid": str(organization_id),
        "sequence": str(position),
        "data": dict(payload),
    }


def next_delay(attempts: int, *, jitter: float) -> timedelta | None:
    """Return the wait after so many attempts, ±20 % by `jitter` (0–1); None after the last one."""
    if attempts >= ATTEMPTS:
        return None
    return DELAYS[attempts - 1] * (1 - SPREAD + 2 * SPREAD * jitter)
