"""Cron in a dealership's own time: five fields, lists, ranges and steps."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from auterity_dagster.errors import Invalid

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_SEARCH_LIMIT = timedelta(days=366 * 5)


def next_fire_at(cron: str, *, after: datetime, time_zone: str) -> datetime:
    """Return the next instant (UTC) after `after` at which the expression holds in the time zone.

    A local time that a change of clocks skips fires at the next valid minute; one that comes twice fires the first
    time. Raises `Invalid` for a wrong expression, an unknown zone, or one that never holds.
    """
    minutes, hours, days, months, weekdays = parse_cron(cron)
    any_day, any_weekday = cron.split()[2] == "*", cron.split()[4] == "*"
    zone = _zone(time_zone)
    local = after.astimezone(zone).replace(second=0, microsecond=0, tzinfo=None)
    day = local.replace(hour=0, minute=0)
    while day - local < _SEARCH_LIMIT:
        in_days, in_weekdays = day.day in days, day.isoweekday() % 7 in weekdays
        fits = (in_days and in_weekdays) if any_day or any_weekday else (in_days or in_weekdays)
        if day.month in months and fits:
            for hour in sorted(hours):
                for minute in sorted(minutes):
                    due = day.replace(hour=hour, minute=minute, tzinfo=zone, fold=0).astimezone(UTC)
                    if due > after:
                        return due
        day += timedelta(days=1)
    raise Invalid(f"the cron expression {cron!r} never holds", field="cron")


def parse_cron(cron: str) -> tuple[frozenset[int], frozenset[int], frozenset[int], frozenset[int], frozenset[int]]:
    """Return the allowed minutes, hours, days, months and weekdays (Sunday is 0). Raises `Invalid`."""
    parts = cron.split()
    if len(parts) != len(_FIELDS):
        raise Invalid(f"{cron!r}: five fields were expected: minute hour day month weekday", field="cron")
    minutes, hours, days, months, weekdays = (
        _field(part, name, low, high) for part, (name, low, high) in zip(parts, _FIELDS, strict=True)
    )
    return minutes, hours, days, months, frozenset(day % 7 for day in weekdays)


def _field(part: str, name: str, low: int, high: int) -> frozenset[int]:
    allowed: set[int] = set()
    for item in part.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            first, last = str(low), str(high)
        numbers = (first, last or first, step or "1")
        if not all(number.isdecimal() for number in numbers):
            raise Invalid(f"cron: {item!r} is no {name}", field="cron")
        begin, end, every = (int(number) for number in numbers)
        if step and not last:
            end = high
        if not (low <= begin <= end <= high and every >= 1):
            raise Invalid(f"cron: {item!r} is no {name} between {low} and {high}", field="cron")
        allowed.update(range(begin, end + 1, every))
    return frozenset(allowed)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"{name!r} is no time zone", field="time_zone") from error
