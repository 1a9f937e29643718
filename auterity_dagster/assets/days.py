"""Days as partitions of assets that add them up."""

from datetime import date, timedelta

import dagster as dg

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", timezone="UTC")


def days_back(day: date, count: int) -> list[date]:
    """Return so many days, the given one first: what arrives late belongs to a day that was added up before."""
    return [day - timedelta(days=back) for back in range(count)]
