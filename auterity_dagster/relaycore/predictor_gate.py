"""May a learned predictor choose instead of the posterior? Only if it is shown to be cheaper at no lower quality.

Shown twice: on held-out prompts that every model answered, and in replay on logged decisions with known propensities.
What was not measured is inconclusive, and only a PASS lets it choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from auterity_dagster.relaycore.outcomes import Floats
from auterity_dagster.relaycore.routing_curve import interval

DRAWS = 4_000


class Outcome(StrEnum):
    """What a gate says."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What has to be shown. `margin` is how much lower the mean score may surely be."""

    min_prompts: int = 200
    min_task_prompts: int = 50
    min_replayed: int = 200
    margin: float = 0.02
    max_calibration_error: float = 0.06


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Prompts that the predictor never saw: what the posterior's choice and the predictor's choice gave and cost."""

    tasks: tuple[str, ...]
    posterior_scores: Floats
    posterior_costs: Floats
    predictor_scores: Floats
    predictor_costs: Floats
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """Labelled decisions of the past: their propensities, and whether the predictor would have chosen the same."""

    propensities: Floats
    is_same: Floats
    scores: Floats
    costs: Floats


@dataclass(frozen=True, slots=True)
class GateReason:
    """One question and its answer."""

    gate: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class GateDecision:
    """FAIL if any question fails, else INCONCLUSIVE if any is open."""

    reasons: tuple[GateReason, ...]

    @property
    def outcome(self) -> Outcome:
        """The answer of all questions together."""
        found = {one.outcome for one in self.reasons}
        return next((one for one in (Outcome.FAIL, Outcome.INCONCLUSIVE) if one in found), Outcome.PASS)


def decide(held_out: HeldOut, replayed: Replayed, limits: GateLimits, *, seed: int) -> GateDecision:
    """Return what the evidence says, question by question."""
    prompts = len(held_out.tasks)
    enough = Outcome.PASS if prompts >= limits.min_prompts else Outcome.INCONCLUSIVE
    error, most = held_out.calibration_error, limits.max_calibration_error
    return GateDecision(
        (
            GateReason("prompts", enough, f"{prompts} held-out prompts, {limits.min_prompts} are asked for"),
            _cheaper(held_out, seed=seed),
            _as_good(held_out, limits, seed=seed),
            _every_task(held_out, limits, seed=seed),
            GateReason(
                "calibration",
                Outcome.PASS if error <= most else Outcome.FAIL,
                f"predicted shares are off by {error:.3f} on average, {most:.3f} may be",
            ),
            _replay(replayed, limits, seed=seed),
        )
    )


def _cheaper(held_out: HeldOut, *, seed: int) -> GateReason:
    low, high = _bounds(held_out.predictor_costs - held_out.posterior_costs, seed=seed)
    mean = float(held_out.posterior_costs.mean())
    shown = f"cost changes by {low:+.4g} to {high:+.4g} a prompt, from {mean:.4g}"
    if high < 0:
        return GateReason("cheaper", Outcome.PASS, shown)
    return GateReason("cheaper", Outcome.FAIL if low >= 0 else Outcome.INCONCLUSIVE, shown)


def _as_good(held_out: HeldOut, limits: GateLimits, *, seed: int) -> GateReason:
    low, high = _bounds(held_out.predictor_scores - held_out.posterior_scores, seed=seed)
    shown = f"the mean score changes by {low:+.4f} to {high:+.4f}; down to {-limits.margin:+.4f} is allowed"
    return GateReason("quality", _not_below(low, high, limits.margin), shown)


def _every_task(held_out: HeldOut, limits: GateLimits, *, seed: int) -> GateReason:
    """No task pays for the others: one that has surely become worse fails."""
    names, tasks = sorted(set(held_out.tasks)), np.array(held_out.tasks)
    worse: list[str] = []
    for name in names:
        rows = tasks == name
        if rows.sum() < limits.min_task_prompts:
            continue
        change = held_out.predictor_scores[rows] - held_out.posterior_scores[rows]
        if _bounds(change, seed=seed)[1] < -limits.margin:
            worse.append(name)
    if worse:
        return GateReason("tasks", Outcome.FAIL, f"surely worse at {', '.join(worse)}")
    return GateReason("tasks", Outcome.PASS, f"none of {len(names)} tasks is surely worse")


def _replay(replayed: Replayed, limits: GateLimits, *, seed: int) -> GateReason:
    """Compare what the predictor's choices gave, weighed by how unlikely each was, with what all choices gave."""
    same = replayed.is_same > 0
    count = int(same.sum())
    if count < limits.min_replayed:
        return GateReason(
            "replay",
            Outcome.INCONCLUSIVE,
            f"{count} labelled decisions of the past agree with it, {limits.min_replayed} are asked for",
        )
    weights = np.where(same, 1 / np.maximum(replayed.propensities, 1e-6), 0.0)
    random = np.random.default_rng(seed)
    quality: list[float] = []
    cost: list[float] = []
    for _ in range(DRAWS // 4):
        drawn = random.integers(0, len(weights), len(weights))
        total = weights[drawn].sum()
        if total > 0:
            quality.append(float(weights[drawn] @ replayed.scores[drawn] / total - replayed.scores[drawn].mean()))
            cost.append(float(weights[drawn] @ replayed.costs[drawn] / total - replayed.costs[drawn].mean()))
    low, high = interval(quality)
    cost_low, cost_high = interval(cost)
    shown = f"score {low:+.4f} to {high:+.4f}, cost {cost_low:+.4g} to {cost_high:+.4g} on {count} decisions"
    answers = {_not_below(low, high, limits.margin)}
    answers.add(Outcome.PASS if cost_high <= 0 else Outcome.FAIL if cost_low > 0 else Outcome.INCONCLUSIVE)
    worst = next((one for one in (Outcome.FAIL, Outcome.INCONCLUSIVE) if one in answers), Outcome.PASS)
    return GateReason("replay", worst, shown)


def _not_below(low: float, high: float, margin: float) -> Outcome:
    if low >= -margin:
        return Outcome.PASS
    return Outcome.FAIL if high < -margin else Outcome.INCONCLUSIVE


def _bounds(values: Floats, *, seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean."""
    if not len(values):
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    means: Sequence[float] = [
        float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(DRAWS // 4)
    ]
    return interval(means)
