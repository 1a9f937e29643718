"""When a scope may be trained again: one request at a time, and none a week after the last, but for good reason."""

import math
from datetime import datetime, timedelta
from typing import Literal

Reason = Literal["new_rows", "drift", "quality_lost", "consent_revoked", "base_changed", "person"]

COOL_DOWN = timedelta(days=7)
AT_ONCE: frozenset[Reason] = frozenset(("consent_revoked", "person"))
"""Rows that may no longer be used must not wait, and a person knows why."""

LEAST_NEW_ROWS, LEAST_NEW_SHARE = 500, 0.1
"""So many new rows, and so many beside those that the last version had, make a new version worth its price."""


def rows_wanted(*, last_rows: int) -> int:
    """Return how many new rows make it worth to train again: fewer would hardly change what the model learned."""
    return max(LEAST_NEW_ROWS, math.ceil(LEAST_NEW_SHARE * last_rows))


def why_not_yet(reason: Reason, *, last_opened_at: datetime | None, now: datetime) -> str | None:
    """Return why a request may not be opened now, or None if it may."""
    if reason in AT_ONCE or last_opened_at is None or now - last_opened_at >= COOL_DOWN:
        return None
    return f"the last request was opened on {last_opened_at:%Y-%m-%d}; {COOL_DOWN.days} days must pass"
