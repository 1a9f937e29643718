"""Thompson sampling with known chances: how likely each of several Beta posteriors gives the highest draw.

Drawing an arm with these chances is the same as drawing from each posterior and taking the highest, and the chance of
what was drawn is known exactly, which replays of logged decisions need.
"""

import math
from functools import lru_cache

from auterity_dagster.relaycore.quality import Quality

CELLS = 256
_MIDDLES = tuple((cell + 0.5) / CELLS for cell in range(CELLS))


@lru_cache(maxsize=1024)
def winning_shares(posteriors: tuple[Quality, ...]) -> tuple[float, ...]:
    """Return each posterior's chance, in order; they sum to 1. Within one of 256 cells draws count as equal."""
    masses = [_masses(one) for one in posteriors]
    middles = [_middles_of_cumulative(one) for one in masses]
    raw = [
        sum(mass * math.prod(middles[other][cell] for other in range(len(masses)) if other != arm)
            for cell, mass in enumerate(masses[arm]))
        for arm in range(len(masses))
    ]  # fmt: skip
    total = sum(raw)
    return tuple(one / total for one in raw)


def arm_at(shares: tuple[float, ...], drawn: float) -> int:
    """Return the arm on which a number from 0 up to but not 1 falls."""
    for arm, share in enumerate(shares):
        drawn -= share
        if drawn < 0:
            return arm
    return len(shares) - 1


def _masses(posterior: Quality) -> list[float]:
    logs = [
        (posterior.alpha - 1) * math.log(x) + (posterior.beta - 1) * math.log1p(-x) for x in _MIDDLES
    ]  # fmt: skip
    highest = max(logs)
    masses = [math.exp(one - highest) for one in logs]
    total = sum(masses)
    return [one / total for one in masses]


def _middles_of_cumulative(masses: list[float]) -> list[float]:
    below, found = 0.0, list[float]()
    for mass in masses:
        found.append(below + mass / 2)
        below += mass
    return found
