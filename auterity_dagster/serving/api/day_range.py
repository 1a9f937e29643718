"""The days that a question about the past is about."""

from datetime import date, timedelta

from auterity_dagster.clock import Clock
from auterity_dagster.errors import Invalid

DEFAULT_DAYS, MAX_DAYS = 30, 400


def day_range(clock: Clock, since: date | None, until: date | None) -> tuple[date, date]:
    """Return first and last day, by default the last 30 days up to today (UTC). Raises `Invalid`."""
    until = until or clock.now().date()
    since = since or until - timedelta(days=DEFAULT_DAYS)
    if not timedelta(0) <= until - since <= timedelta(days=MAX_DAYS):
        raise Invalid(f"A time has 1 to {MAX_DAYS} days, and its end is not before its beginning.", field="since")
    return since, until
