"""When a message may leave: inside every window in every zone at once, and the next minute at which that is so."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from auterity_dagster.automatrix.compliance.rows import QuietHours

DAYS_AHEAD = 3


def is_open(now: datetime, windows: Iterable[QuietHours], zones: Iterable[str]) -> bool:
    """True if it is within every window in every zone."""
    local = [now.astimezone(ZoneInfo(zone)).time() for zone in zones]
    return all(row.begin <= one < row.end for row in windows for one in local)


def next_open(now: datetime, windows: tuple[QuietHours, ...], zones: frozenset[str]) -> tuple[datetime, str] | None:
    """Return the first later minute that is open and the zone that was waited for; None if the zones never agree."""
    for moment, zone in sorted(_beginnings(now, windows, zones)):
        if is_open(moment, windows, zones):
            return moment, zone
    return None


def _beginnings(now: datetime, windows: Iterable[QuietHours], zones: Iterable[str]) -> Iterator[tuple[datetime, str]]:
    for zone in zones:
        today = now.astimezone(ZoneInfo(zone)).date()
        for row in windows:
            for days in range(DAYS_AHEAD):
                moment = _moment(today + timedelta(days=days), row.begin, zone).astimezone(now.tzinfo)
                if moment > now:
                    yield moment, zone


def _moment(day: date, at: time, zone: str) -> datetime:
    return datetime.combine(day, at, tzinfo=ZoneInfo(zone))
