"""What a budget's window will have spent when it closes: past hours or days drawn again and again, with an interval."""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.budget import Period

Grain = Literal["hour", "day"]

DRAWS = 1_000
LOW, HIGH = 0.05, 0.95
LEAST: Mapping[Grain, int] = {"hour": 24, "day": 7}
"""So many whole hours or days of history a forecast needs."""
LOOK_BACK: Mapping[Grain, timedelta] = {"hour": timedelta(days=14), "day": timedelta(days=56)}
LEAST_ALIKE = 3
"""A weekday (or hour of the day) is drawn from its own past once each of them was seen so often; before, from all."""


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """An open window and what is spent in it; `seed` makes the same draws each time."""

    seed: UUID
    period: Period
    time_zone: str
    closes_at: datetime | None
    settled_nusd: NanoUsd
    cap_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the window will have spent at its end: the mean of the draws, and the 5 % and 95 % quantiles.

    `share_over_cap` is how many of the draws ended above the cap: a hard budget would refuse what goes beyond.
    """

    low_nusd: NanoUsd
    expected_nusd: NanoUsd
    high_nusd: NanoUsd
    share_over_cap: float


@dataclass(frozen=True, slots=True)
class NoForecast:
    """Why nothing can be said."""

    reason: str


def grain_of(period: Period) -> Grain:
    """Return what history a window of this period is forecast from."""
    return "hour" if period in (Period.HOUR, Period.DAY) else "day"


def begins(at: datetime, grain: Grain, zone: ZoneInfo) -> datetime:
    """Return the instant, in UTC, at which the hour or day of another began by the wall clock of the zone."""
    local = at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
    return (local if grain == "hour" else local.replace(hour=0, fold=0)).astimezone(UTC)


def forecast(
    window: OpenWindow, history: Mapping[datetime, NanoUsd], *, known_from: datetime | None, now: datetime
) -> Forecast | NoForecast:
    """Forecast a window's spend at its end.

    `history` is what was spent by the beginning of each whole hour or day before the present one (`grain_of`); one
    that is missing spent nothing. Nothing is known of the time before `known_from`. What is settled is certain; the
    rest of the present hour or day and each one that follows is drawn from the past ones, like weekday from like
    weekday (hours: like hour of the day) where there are enough. The past itself is resampled for every draw, so that
    a short history gives a wide interval. Days are taken to be independent; holds that are open are not counted.
    """
    grain, zone = grain_of(window.period), ZoneInfo(window.time_zone)
    if window.closes_at is None:
        return NoForecast("A budget for a lifetime has no end to forecast.")
    past = _past(history, grain, zone, known_from=known_from, now=now)
    if len(past) < LEAST[grain]:
        return NoForecast(
            f"{len(past)} whole {grain}s of spending are known; a forecast needs at least {LEAST[grain]}."
        )
    parts = _coming(grain, zone, now=now, closes_at=window.closes_at)
    totals = sorted(_drawn(_alike(past, grain, zone), parts, random.Random(window.seed.int)))  # noqa: S311 - a simulation
    ends = [window.settled_nusd + total for total in totals]
    return Forecast(
        low_nusd=ends[math.floor(LOW * (DRAWS - 1))],
        expected_nusd=sum(ends) // DRAWS,
        high_nusd=ends[math.ceil(HIGH * (DRAWS - 1))],
        share_over_cap=sum(end > window.cap_nusd for end in ends) / DRAWS,
    )


def _past(
    history: Mapping[datetime, NanoUsd], grain: Grain, zone: ZoneInfo, *, known_from: datetime | None, now: datetime
) -> dict[datetime, NanoUsd]:
    """Every whole hour or day that is known, those without spending too; the first one may have begun before."""
    if known_from is None:
        return {}
    present = begins(now, grain, zone)
    at = _next(begins(known_from, grain, zone), grain, zone)
    at = max(at, begins(now - LOOK_BACK[grain], grain, zone))
    spent = {begins(one, grain, zone): amount for one, amount in history.items()}
    past: dict[datetime, NanoUsd] = {}
    while at < present:
        past[at] = spent.get(at, 0)
        at = _next(at, grain, zone)
    return past


@dataclass(frozen=True, slots=True)
class _Part:
    """An hour or day of the window that is not over: so many of its seconds lie ahead."""

    kind: int
    ahead_s: int
    whole_s: int


def _coming(grain: Grain, zone: ZoneInfo, *, now: datetime, closes_at: datetime) -> list[_Part]:
    parts: list[_Part] = []
    at = begins(now, grain, zone)
    while at < closes_at:
        following = _next(at, grain, zone)
        ahead, whole = min(following, closes_at) - max(at, now), following - at
        parts.append(_Part(_kind(at, grain, zone), round(ahead.total_seconds()), round(whole.total_seconds())))
        at = following
    return parts


def _drawn(alike: Mapping[int, list[NanoUsd]], parts: Sequence[_Part], chance: random.Random) -> list[NanoUsd]:
    """What each draw spends in all parts together."""
    wanted: defaultdict[int, list[_Part]] = defaultdict(list)
    for part in parts:
        wanted[part.kind if len(alike) > 1 else 0].append(part)
    totals: list[NanoUsd] = []
    for _ in range(DRAWS):
        total = 0
        for kind, alike_parts in wanted.items():
            resampled = chance.choices(alike[kind], k=len(alike[kind]))
            amounts = chance.choices(resampled, k=len(alike_parts))
            total += sum(
                amount * part.ahead_s // part.whole_s for amount, part in zip(amounts, alike_parts, strict=True)
            )
        totals.append(total)
    return totals


def _alike(past: Mapping[datetime, NanoUsd], grain: Grain, zone: ZoneInfo) -> dict[int, list[NanoUsd]]:
    """The past by weekday or hour of the day; all of it as one kind where some kind was seen too seldom."""
    kinds: defaultdict[int, list[NanoUsd]] = defaultdict(list)
    for at, amount in past.items():
        kinds[_kind(at, grain, zone)].append(amount)
    if len(kinds) == (24 if grain == "hour" else 7) and min(map(len, kinds.values())) >= LEAST_ALIKE:
        return dict(kinds)
    return {0: list(past.values())}


def _kind(at: datetime, grain: Grain, zone: ZoneInfo) -> int:
    local = at.astimezone(zone)
    return local.hour if grain == "hour" else local.weekday()


def _next(at: datetime, grain: Grain, zone: ZoneInfo) -> datetime:
    """The beginning of what follows: of an hour by the clock of the world, of a day by the wall's."""
    if grain == "hour":
        return at + timedelta(hours=1)
    following = at.astimezone(zone).date() + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)
