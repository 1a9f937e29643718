"""ISO 8601 durations of days, hours, minutes and seconds: `P3D`, `PT20S`."""

import re
from datetime import timedelta

from auterity_dagster.errors import Invalid

_DURATION = re.compile(r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,4})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?")


def duration_text(duration: timedelta) -> str:
    """Return a duration of whole seconds as `parse_duration` reads it."""
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days = f"{duration.days}D" if duration.days else ""
    time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number)
    return f"P{days}{'T' + time if time else ''}" if days or time else "PT0S"


def parse_duration(text: str) -> timedelta:
    """Read a duration. Raises `Invalid` for months, years, fractions and an empty one."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()) or text.endswith("T"):
        raise Invalid(f"{text!r} is not a duration such as 'PT20S', 'PT5M' or 'P3D'")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
