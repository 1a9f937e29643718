"""Whether daily usage says the same as the attempts that it was added up from."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from auterity_dagster.storage.tables.analytics import UsageDayRow
from auterity_dagster.storage.tables.ledger import UsageRow


def differing_days(session: Session, days: Sequence[date]) -> list[date]:
    """Return the days of the organization whose cost or number of attempts is not the same in both tables."""
    attempts = select(UsageRow.day, func.count(), func.sum(UsageRow.cost_nusd)).where(UsageRow.day.in_(days))
    rolled = select(UsageDayRow.day, func.sum(UsageDayRow.attempts), func.sum(UsageDayRow.cost_nusd)).where(
        UsageDayRow.day.in_(days)
    )
    first = {day: (int(count), int(cost)) for day, count, cost in session.execute(attempts.group_by(UsageRow.day))}
    second = {day: (int(count), int(cost)) for day, count, cost in session.execute(rolled.group_by(UsageDayRow.day))}
    return sorted(day for day in first.keys() | second.keys() if first.get(day) != second.get(day))
