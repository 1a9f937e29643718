"""All models together: what quality a router reaches at what cost when it may choose any of them for each prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from auterity_dagster.relaycore.outcomes import Floats, OutcomeTable
from auterity_dagster.relaycore.routing_curve import choices, prices


@dataclass(frozen=True, slots=True)
class MixturePoint:
    """One setting of the router: average quality and cost, and the share of prompts that each model gets."""

    quality: float
    cost: float
    shares: Mapping[str, float]


def expected_costs(train: OutcomeTable, test: OutcomeTable) -> Floats:
    """Return what each model will probably cost for each test prompt: a straight line over the prompt's length."""
    lengths, wanted = _lengths(train), _lengths(test)
    found = np.empty((len(test), len(test.models)))
    for column in range(len(test.models)):
        known = ~np.isnan(train.costs[:, column])
        mean = float(train.costs[known, column].mean())
        x, y = lengths[known], train.costs[known, column]
        slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1)) if len(x) > 2 and x.var() > 0 else 0.0
        found[:, column] = np.maximum(mean + max(slope, 0.0) * (wanted - x.mean()), mean * 0.05)
    return found


def mixture(scores: Floats, costs: Floats, test: OutcomeTable) -> list[MixturePoint]:
    """Return the points of the cost-quality curve over the test prompts that every model answered, cheapest first."""
    complete = ~np.isnan(test.scores).any(axis=1)
    if not complete.any():
        return []
    scores, costs, truth, paid = scores[complete], costs[complete], test.scores[complete], test.costs[complete]
    rows = np.arange(len(scores))
    points: list[MixturePoint] = []
    for price in prices(scores, costs):
        chosen = choices(scores, costs, price=float(price))
        counts = np.bincount(chosen, minlength=len(test.models)) / len(chosen)
        shares = {model: float(share) for model, share in zip(test.models, counts, strict=True) if share > 0}
        points.append(MixturePoint(float(truth[rows, chosen].mean()), float(paid[rows, chosen].mean()), shares))
    return sorted(points, key=lambda point: point.cost)


def saving_at_equal_quality(points: Sequence[MixturePoint], test: OutcomeTable) -> float | None:
    """Return the share of the best single model's cost that routing saves at no lower quality, or None."""
    complete = ~np.isnan(test.scores).any(axis=1)
    if not complete.any():
        return None
    quality, cost = test.scores[complete].mean(axis=0), test.costs[complete].mean(axis=0)
    best = int(np.argmax(quality))
    good = [point.cost for point in points if point.quality >= quality[best]]
    if not good or cost[best] <= 0:
        return None
    return float(1 - min(*good, float(cost[best])) / cost[best])


def _lengths(table: OutcomeTable) -> Floats:
    return np.array([len(prompt) for prompt in table.prompts], dtype=np.float64)
