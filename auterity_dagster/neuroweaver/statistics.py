"""The statistics behind a verdict: paired, clustered, exact where a count is small, and repeatable by seed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its bounds."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """Pairs that two systems answered differently: who won how many, and how surprising that is under equality."""

    wins: int
    losses: int
    p_two_sided: float


def paired_difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], *, seed: int, confidence: float
) -> Interval:
    """Return the mean of `first` - `second` with a bootstrap interval over clusters, 10,000 seeded draws.

    Items of one cluster are drawn together, because they are not independent. With `confidence` 0.9 the lower bound is
    a one-sided 95 % bound. Raises `ValueError` for lists of different length or for none.
    """
    if not first or not len(first) == len(second) == len(clusters):
        raise ValueError("paired scores need two lists of the same length and a cluster for each")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    sums, sizes = _by_cluster(differences, clusters)
    drawn = _drawn(len(sums), seed)
    means = (drawn @ sums) / (drawn @ sizes)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(differences.mean()), float(low), float(high))


def mean_interval(scores: Sequence[float], clusters: Sequence[str], *, seed: int, confidence: float) -> Interval:
    """Return the mean score with its bootstrap interval over clusters."""
    return paired_difference(scores, [0.0] * len(scores), clusters, seed=seed, confidence=confidence)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Compare two systems' pass or fail on the same items, exactly (a binomial test on the pairs that differ)."""
    wins = sum(one and not other for one, other in zip(first, second, strict=True))
    losses = sum(other and not one for one, other in zip(first, second, strict=True))
    decisive = wins + losses
    if decisive == 0:
        return McNemar(0, 0, 1.0)
    tail = binomial_cdf(min(wins, losses), decisive, 0.5)
    return McNemar(wins, losses, min(1.0, 2 * tail))


def clopper_pearson(successes: int, trials: int, *, confidence: float) -> Interval:
    """Return the exact two-sided interval of a share; with no trials it is 0 to 1."""
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _solve(lambda p: 1 - binomial_cdf(successes - 1, trials, p), tail)
    high = 1.0 if successes == trials else _solve(lambda p: -binomial_cdf(successes, trials, p), -tail)
    return Interval(successes / trials, low, high)


def upper_bound(successes: int, trials: int, *, confidence: float) -> float:
    """Return the exact one-sided upper bound of a share; 1 without trials."""
    return clopper_pearson(successes, trials, confidence=2 * confidence - 1).high


def holm(p_values: Mapping[str, float]) -> Mapping[str, float]:
    """Adjust p-values for having tested several things, after Holm."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = largest
    return adjusted


def items_needed(*, margin: float, discordance: float) -> int:
    """Return how many items show non-inferiority within `margin` with 80 % power, one-sided 95 %, true equality.

    n = 6.18 x discordance / margin^2: 1,546 for 2 points at 10 % discordance, 248 for 5.
    """
    return math.ceil(round(6.1826 * discordance / margin**2, 6))


def margin_shown(*, items: int, discordance: float) -> float:
    """Return the smallest margin that so many items can show, by the rule of `items_needed`."""
    return math.sqrt(6.1826 * discordance / items)


def binomial_cdf(successes: int, trials: int, p: float) -> float:
    """Return the probability of at most so many successes."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return float(successes >= trials)
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(p)
        + (trials - k) * math.log1p(-p)
        for k in range(successes + 1)
    ]
    return min(1.0, math.fsum(math.exp(one) for one in logs))


@lru_cache(maxsize=1)
def _drawn(clusters: int, seed: int) -> NDArray[np.float64]:
    """Return how often each draw has each cluster; a report asks for the same draws four times for each family."""
    random = np.random.default_rng(seed)
    return random.multinomial(clusters, np.full(clusters, 1 / clusters), size=DRAWS).astype(np.float64)


def _by_cluster(
    values: NDArray[np.float64], clusters: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    names = {name: at for at, name in enumerate(sorted(set(clusters)))}
    indices = np.array([names[name] for name in clusters], dtype=np.int64)
    sums = np.zeros(len(names), dtype=np.float64)
    sizes = np.zeros(len(names), dtype=np.float64)
    np.add.at(sums, indices, values)
    np.add.at(sizes, indices, 1.0)
    return sums, sizes


def _solve(rising: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
