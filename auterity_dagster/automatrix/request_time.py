"""When a lead was asked for, from the time stamps that senders really write."""

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

_WRITTEN = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?P<between>[T ])(?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)"
    r"(?P<blank>\s?)(?P<offset>Z|[+-][0-9]{2}(?::?[0-9]{0,2})?)?",
    re.IGNORECASE,
)
_WHOLE_OFFSET = re.compile(r"Z|[+-][0-9]{2}:[0-9]{2}")


def request_time(written: str, *, received_at: datetime, zone: ZoneInfo) -> tuple[datetime, str | None]:
    """Return the instant in UTC and the flag for what had to be assumed.

    An offset cut short is completed with zeros; without one the dealership's zone holds; what is no time at all
    becomes the time of receipt.
    """
    found = _WRITTEN.fullmatch(written.strip())
    if found is None:
        return received_at, "request_time_missing"
    offset = (found["offset"] or "").upper()
    try:
        local = datetime.fromisoformat(f"{found['date']}T{found['time'][:15]}")
        aware = local.replace(tzinfo=_zone(offset) if offset else zone)
        instant = aware.astimezone(UTC)
    except (ValueError, OverflowError):
        return received_at, "request_time_missing"
    if not offset:
        return instant, "request_time_without_zone"
    is_whole = _WHOLE_OFFSET.fullmatch(offset) and not found["blank"] and found["between"].upper() == "T"
    return instant, None if is_whole else "request_time_repaired"


def _zone(offset: str) -> timezone:
    if offset == "Z":
        return UTC
    digits = offset[1:].replace(":", "").ljust(4, "0")
    distance = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-distance if offset[0] == "-" else distance)
