"""Quality against cost of a router on measured outcomes: the curve, APGR, CPT, and intervals by bootstrap.

Between a weak and a strong model: PGR is the share of the strong model's advantage that a router recovers, APGR its
mean over all shares of strong calls (0.5: as good as a coin), CPT(x) the smallest share of strong calls with PGR x.
Source: RouteLLM, arXiv:2406.18665, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.relaycore.outcomes import Floats

DRAWS = 1000
SHARES = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a router gives and costs on average when it is set so; `share` is the share of strong calls."""

    share: float
    quality: float
    cost: float


@dataclass(frozen=True, slots=True)
class PairFigures:
    """How well a router chooses between two models; NaN where the strong one has no advantage to recover."""

    apgr: float
    cpt50: float
    cpt80: float


def pair_figures(gains: Floats, wanted: Floats) -> PairFigures:
    """Return the figures of sending prompts to the strong model in the order of `wanted`, the highest first.

    `gains` is what the strong model's score is above the weak one's. Equal `wanted` are taken in no particular order:
    each of them counts as their mean.
    """
    return _figures(recovered(gains, wanted)[None])[0]


def pair_draws(gains: Floats, wanted: Floats, *, seed: int, draws: int = DRAWS) -> Sequence[PairFigures]:
    """Return the figures of bootstrap samples of the prompts."""
    return _figures(_recovered_draws(gains, wanted, seed=seed, draws=draws))


def pair_curve(
    weak: Floats, strong: Floats, weak_costs: Floats, strong_costs: Floats, wanted: Floats
) -> list[CurvePoint]:
    """Return the curve at every twentieth share of strong calls."""
    order = np.argsort(-wanted, kind="stable")
    points: list[CurvePoint] = []
    for share in np.linspace(0, 1, 21):
        chosen = np.zeros(len(weak), dtype=bool)
        chosen[order[: round(share * len(weak))]] = True
        quality, cost = np.where(chosen, strong, weak), np.where(chosen, strong_costs, weak_costs)
        points.append(CurvePoint(float(share), float(quality.mean()), float(cost.mean())))
    return points


def recovered(gains: Floats, wanted: Floats) -> Floats:
    """Return the advantage gained at each share of `SHARES`, as a share of all of it (PGR)."""
    ordered = _tied_means(gains, wanted)
    curve: Floats = np.concatenate(([0.0], np.cumsum(ordered))) / len(gains)
    total = float(curve[-1])
    if total <= 0:
        return np.full(len(SHARES), np.nan)
    return np.interp(SHARES, np.linspace(0, 1, len(curve)), curve / total)


def interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values, NaN where none is a number."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def choices(scores: Floats, costs: Floats, *, price: float) -> NDArray[np.intp]:
    """Return the model of each prompt with the highest expected score less `price` times its expected cost."""
    chosen: NDArray[np.intp] = np.argmax(scores - price * costs, axis=1)
    return chosen


def prices(scores: Floats, costs: Floats, *, count: int = 40) -> Floats:
    """Return prices between "only quality counts" and "only cost counts" at which choices change evenly."""
    spread = np.ptp(costs.mean(axis=0))
    if spread <= 0:
        return np.zeros(1)
    cheapest = int(np.argmin(costs.mean(axis=0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = (scores - scores[:, [cheapest]]) / (costs - costs[:, [cheapest]])
    positive = worth[np.isfinite(worth) & (worth > 0)]
    if not len(positive):
        return np.array([0.0, 1e6 / spread])
    inner = np.quantile(positive, np.linspace(0, 1, count - 2))
    return np.unique(np.concatenate(([0.0], inner, [inner[-1] * 10])))


def _recovered_draws(gains: Floats, wanted: Floats, *, seed: int, draws: int) -> Floats:
    """One row a bootstrap sample of the prompts, weights drawn as a multinomial."""
    ordered, count = _tied_means(gains, wanted), len(gains)
    random = np.random.default_rng(seed)
    found = np.empty((draws, len(SHARES)))
    for draw in range(draws):
        weights = random.multinomial(count, np.full(count, 1 / count))
        curve = np.concatenate(([0.0], np.cumsum(ordered * weights)))
        shares = np.concatenate(([0.0], np.cumsum(weights))) / count
        found[draw] = np.interp(SHARES, shares, curve / curve[-1]) if curve[-1] > 0 else np.nan
    return found


def _tied_means(gains: Floats, wanted: Floats) -> Floats:
    """Return the gains in the order of `wanted`, those with equal `wanted` replaced by their mean."""
    order = np.argsort(-wanted, kind="stable")
    ordered, keys = gains[order], wanted[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    sizes = np.diff(np.concatenate((starts, [len(keys)])))
    return np.repeat(np.add.reduceat(ordered, starts) / sizes, sizes)


def _figures(curves: Floats) -> list[PairFigures]:
    found: list[PairFigures] = []
    for curve in curves:
        if np.isnan(curve).any():
            found.append(PairFigures(float("nan"), float("nan"), float("nan")))
            continue
        thresholds = [float(SHARES[np.argmax(curve >= wanted - 1e-9)]) for wanted in (0.5, 0.8)]
        found.append(PairFigures(float(np.trapezoid(curve, SHARES)), thresholds[0], thresholds[1]))
    return found
