"""What would save money at a quality that is surely good enough: found from usage and evidence, with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.pricing import Price, Usage, cost
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.routing_curve import interval

DAYS_A_MONTH = 30.4
MIN_DAYS, MIN_REQUESTS = 7, 100
"""Less usage says too little about a month."""

OWN_REQUESTS = 50
"""From so many requests on, an option's own answers say how long they are."""

LENGTH_SPREAD = 0.35
"""How far, as the logarithm's standard deviation, another model's answers may be longer or shorter."""

DRAWS = 2_000
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class DayOfUse:
    """One day's answered requests of one deployment at one task."""

    day: date
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class Option:
    """A deployment that serves a task or could: its price, what is known of its quality, and its use so far."""

    deployment_id: str
    price: Price
    quality: Quality
    days: tuple[DayOfUse, ...]

    @property
    def requests(self) -> int:
        """All requests of the time."""
        return sum(one.requests for one in self.days)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Send a task's requests elsewhere. The saving is a month's, with a 90 % interval that does not reach 0."""

    task: str
    from_deployment: str
    to_deployment: str
    requests: int
    days: int
    since: date
    until: date
    saving_nusd: NanoUsd
    saving_low_nusd: NanoUsd
    saving_high_nusd: NanoUsd
    quality: Quality
    quality_before: Quality
    quality_change_low: float
    is_length_measured: bool


def recommend(
    task: str, current: Option, options: Sequence[Option], *, floor: float, seed: int
) -> Recommendation | None:
    """Return the option that saves most, or None where none is surely cheaper and surely good enough.

    The interval is a bootstrap over days; where an option has hardly answered this task, the length of its answers is
    uncertain too.
    """
    if current.requests < MIN_REQUESTS or len(current.days) < MIN_DAYS:
        return None
    found = [
        made
        for option in options
        if option.deployment_id != current.deployment_id and option.quality.lower_bound >= floor
        for made in [_compared(task, current, option, seed=seed)]
        if made.saving_low_nusd > 0
    ]
    return max(found, key=lambda one: (one.saving_low_nusd, one.to_deployment), default=None)


def realised(before: Sequence[DayOfUse], after: Sequence[DayOfUse], *, seed: int) -> tuple[float, float, float] | None:
    """Return what a month saves as measured, with a 90 % interval: cost a request before and after, at today's volume.

    `before` and `after` are a task's days over all its deployments. None while there are fewer than seven days or a
    hundred requests afterwards.
    """
    if len(after) < MIN_DAYS or sum(one.requests for one in after) < MIN_REQUESTS or not before:
        return None
    random = np.random.default_rng(seed)
    first, second = _arrays(before), _arrays(after)

    def saved(old: np.ndarray, new: np.ndarray) -> float:
        each = old[:, 1].sum() / max(old[:, 0].sum(), 1) - new[:, 1].sum() / max(new[:, 0].sum(), 1)
        return float(each * new[:, 0].mean() * DAYS_A_MONTH)

    drawn = [
        saved(first[random.integers(0, len(first), len(first))], second[random.integers(0, len(second), len(second))])
        for _ in range(DRAWS)
    ]
    low, high = interval(drawn, confidence=CONFIDENCE)
    return saved(first, second), low, high


def patch_of(found: Recommendation, *, priority: int) -> dict[str, object]:
    """Return what to add to a steering policy: a pool with the option first, and a rule that sends the task there."""
    name = f"recommended-{found.task.replace('_', '-')}"
    rule = {
        "id": name,
        "priority": priority,
        "when": {"features.task": {"eq": found.task}},
        "then": {"pool": name, "on_no_candidates": "relax"},
    }
    return {"pools": {name: [found.to_deployment, found.from_deployment]}, "rules": [rule]}


def _compared(task: str, current: Option, option: Option, *, seed: int) -> Recommendation:
    random = np.random.default_rng(seed)
    is_measured = option.requests >= OWN_REQUESTS
    ratio = _length_ratio(current, option) if is_measured else 1.0
    spread = 0.0 if is_measured else LENGTH_SPREAD
    paid = np.array([float(one.cost_nusd) for one in current.days])
    fixed = np.array([_priced(one, option.price, 0.0) for one in current.days])
    answers = np.array([_priced(one, option.price, ratio) for one in current.days]) - fixed
    length = (current.days[-1].day - current.days[0].day).days + 1
    active = len(current.days) / length
    drawn: list[float] = []
    for _ in range(DRAWS):
        rows = random.integers(0, len(paid), len(paid))
        factor = math.exp(random.normal(0, spread)) if spread else 1.0
        drawn.append(float((paid[rows] - fixed[rows] - factor * answers[rows]).mean() * active * DAYS_A_MONTH))
    low, high = interval(drawn, confidence=CONFIDENCE)
    expected = float((paid - fixed - answers).mean() * active * DAYS_A_MONTH)
    return Recommendation(
        task=task,
        from_deployment=current.deployment_id,
        to_deployment=option.deployment_id,
        requests=current.requests,
        days=len(current.days),
        since=current.days[0].day,
        until=current.days[-1].day,
        saving_nusd=round(expected),
        saving_low_nusd=round(low),
        saving_high_nusd=round(high),
        quality=option.quality,
        quality_before=current.quality,
        quality_change_low=_change_low(option.quality, current.quality, random),
        is_length_measured=is_measured,
    )


def _priced(day: DayOfUse, price: Price, length: float) -> float:
    """What a day's requests would cost at a price, each like the day's average, its answer `length` times as long."""
    if not day.requests:
        return 0.0
    average = Usage(round(day.prompt_tokens / day.requests), round(length * day.completion_tokens / day.requests))
    return float(cost(average, price) * day.requests)


def _length_ratio(current: Option, option: Option) -> float:
    def length(one: Option) -> float:
        return sum(day.completion_tokens for day in one.days) / max(one.requests, 1)

    return length(option) / max(length(current), 1.0)


def _change_low(after: Quality, before: Quality, random: np.random.Generator) -> float:
    """The 5 % quantile of how much the chance of a good answer changes."""
    change = random.beta(after.alpha, after.beta, 20_000) - random.beta(before.alpha, before.beta, 20_000)
    return float(np.quantile(change, 0.05))


def _arrays(days: Sequence[DayOfUse]) -> np.ndarray:
    return np.array([(one.requests, one.cost_nusd) for one in days], dtype=np.float64)
