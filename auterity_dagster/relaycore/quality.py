"""How good a model is at a task, as a Beta posterior: its mean, and the lower bound that routing trusts."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal
from uuid import UUID

from auterity_dagster.errors import Invalid

MAX_EVALUATION_WEIGHT = 50
"""Evaluation counts for at most this many observations, so that later evidence can still move the posterior."""

LOWER_QUANTILE, UPPER_QUANTILE = 0.05, 0.95
EVALUATION, SHARED = "evaluation", "shared"
HALF_LIFE = timedelta(days=14)
"""After so long a label counts half: models behind a name change, and so does what is asked of them."""

LabelSource = Literal["workflow_outcome", "judge", "thumb"]
LABEL_WEIGHTS: Mapping[str, float] = {"workflow_outcome": 1.0, "judge": 0.5, "thumb": 0.3, SHARED: 1.0}
"""What one label of a source counts: a sale or an approved reply says more than a click."""


@dataclass(frozen=True, slots=True)
class QualityEvidence:
    """What one source measured: the mean score (0-1) of an artefact over a number of items of a task.

    `artefact_digest` names the exact bytes that were measured, or `provider:<provider>/<model>`. Labels of one source
    are kept as one running sum: `items` is what they counted together at `recorded_at`, older ones less.
    """

    organization_id: UUID
    task: str
    artefact_digest: str
    source: str
    items: float
    mean_score: float
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Beta(α, β) over the chance that an answer is good; Beta(1, 1) where nothing is known."""

    alpha: float = 1.0
    beta: float = 1.0

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)

    @property
    def lower_bound(self) -> float:
        """The 5 % quantile: 0.05 where nothing is known."""
        return beta_quantile(LOWER_QUANTILE, self.alpha, self.beta)

    @property
    def is_measured(self) -> bool:
        """True if anything is known."""
        return self.alpha + self.beta > 2

    @property
    def upper_bound(self) -> float:
        """The 95 % quantile: what the model may still turn out to be."""
        return beta_quantile(UPPER_QUANTILE, self.alpha, self.beta)


def posterior(evidence: Iterable[QualityEvidence], *, now: datetime) -> Quality:
    """Return the posterior: α = 1 + Σ w·s, β = 1 + Σ w·(1−s), w being what each source still counts.

    All evaluations together count for at most 50 items and do not age. The uniform prior stays in, so that a perfect
    score on a few items is not taken for certainty.
    """
    items = good = weight = weighted = 0.0
    for one in evidence:
        if one.source == EVALUATION:
            items += one.items
            good += one.items * one.mean_score
        else:
            counted = label_weight(one, now=now)
            weight += counted
            weighted += counted * one.mean_score
    if items > 0:
        measured = min(items, MAX_EVALUATION_WEIGHT)
        weight += measured
        weighted += measured * good / items
    return Quality(1 + weighted, 1 + weight - weighted)


def label_weight(evidence: QualityEvidence, *, now: datetime) -> float:
    """Return what labels of a source count now. Their age is taken in whole hours, so that equal looks agree."""
    age = now - (evidence.recorded_at or now)
    hours = max(age // timedelta(hours=1), 0)
    return LABEL_WEIGHTS[evidence.source] * evidence.items * 0.5 ** (hours / (HALF_LIFE / timedelta(hours=1)))


def require_score(score: float) -> float:
    """Return a label's score. Raises `Invalid` unless it lies between 0 (bad) and 1 (good)."""
    if not 0 <= score <= 1:
        raise Invalid("A score lies between 0 (bad) and 1 (good).", field="score")
    return score


@lru_cache(maxsize=4096)
def beta_quantile(probability: float, alpha: float, beta: float) -> float:
    """Return x with I_x(α, β) = probability, by bisection to 1e-9."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if _regularised_beta(middle, alpha, beta) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _regularised_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction (Numerical Recipes §6.4), on the side where that converges fast."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1 - front * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 200):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _nonzero(1 + even * d, tiny), _nonzero(1 + even / c, tiny)
        result *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _nonzero(1 + odd * d, tiny), _nonzero(1 + odd / c, tiny)
        result *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return result


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
