"""When a wait is over, and which events it is for: local times of a dealership, and one indexed key of a match."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

from auterity_dagster.errors import Invalid

MatchValue = str | int | bool
ANY_EVENT = ""
"""The key of a wait that takes every event of its type."""

_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_KEY_LIMIT = 200


def local_instant(text: str, *, now: datetime, time_zone: str) -> datetime:
    """Return the instant (UTC) of `10:00` (the next one) or `2026-12-01T10:00` in a time zone; an offset wins.

    A local time that a change of clocks skips is the first valid minute after it; one that comes twice is the first.
    Raises `Invalid` for anything else.
    """
    zone = ZoneInfo(time_zone)
    time_of_day = _TIME_OF_DAY.fullmatch(text)
    if time_of_day is None:
        try:
            given = datetime.fromisoformat(text)
        except ValueError as error:
            raise Invalid(f"{text!r} is neither a time such as '10:00' nor one such as '2026-12-01T10:00'") from error
        if "T" not in text:
            raise Invalid(f"{text!r} names no time of day: write '{text}T10:00'")
        return given.astimezone(UTC) if given.tzinfo is not None else _valid(given, zone)
    day = now.astimezone(zone).replace(
        hour=int(time_of_day[1]), minute=int(time_of_day[2]), second=0, microsecond=0, tzinfo=None
    )
    due = _valid(day, zone)
    return due if due > now else _valid(day + timedelta(days=1), zone)


def match_key(match: Mapping[str, MatchValue]) -> str:
    """Return the one text that a wait is looked up by: its alphabetically first field."""
    if not match:
        return ANY_EVENT
    name = min(match)
    return _key(name, match[name])


def match_keys(data: Mapping[str, object]) -> tuple[str, ...]:
    """Return the keys of every wait that an event with this data could end."""
    own = [_key(name, value) for name, value in data.items() if isinstance(value, str | int | bool)]
    return (ANY_EVENT, *own)


def _key(name: str, value: object) -> str:
    text = f"{name}={json.dumps(value, ensure_ascii=False)}"
    return text if len(text) <= _KEY_LIMIT else sha256(text.encode()).hexdigest()


def _valid(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall time; one that is skipped moves to the minute at which the clock goes on."""
    instant = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local:
        return instant
    # In the gap, `fold` 0 reads the offset before the change: the change itself lies between the two readings.
    low, high = local.replace(tzinfo=zone, fold=1).astimezone(UTC), instant
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)
