"""One split: learn on one part of the prompts, and keep what was said of the other part beside what was true there."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from auterity_dagster.relaycore.outcomes import Floats, OutcomeTable, split
from auterity_dagster.relaycore.predictor import Encoded, Prediction, Predictor
from auterity_dagster.training.routing.fit import learn
from auterity_dagster.training.routing.mixture import expected_costs

TRAIN_SHARE = 0.6
TIMED_PROMPTS = 200


class Pair(NamedTuple):
    """The columns of the two models that are compared."""

    strong: int
    weak: int


@dataclass(frozen=True, slots=True)
class Tested:
    """One split's test prompts.

    `gains`, `pair_tasks`, `pair_outcomes` (scores weak and strong, costs weak and strong) and the orders `routed`,
    `by_length`, `by_task_mean` are of the prompts that both models of the pair answered.
    """

    seed: int
    train_prompts: int
    test: OutcomeTable
    scores: Floats
    expected_costs: Floats
    gains: Floats
    pair_tasks: tuple[str, ...]
    pair_outcomes: tuple[Floats, Floats, Floats, Floats]
    routed: Floats
    by_length: Floats
    by_task_mean: Floats
    advantage_draws: Floats
    in_domain_share: float
    calibration_error: float
    below_lower_bound: float
    member_weights: tuple[float, ...]
    decision_us: Floats


def tested(table: OutcomeTable, encoded: Mapping[str, Encoded], pair: Pair, *, seed: int) -> Tested:
    """Learn on `TRAIN_SHARE` of the prompts and predict the others."""
    train, test = split(table, share=TRAIN_SHARE, seed=seed)
    predictor = learn(train, [encoded[prompt] for prompt in train.prompts], seed=seed).predictor
    asked = zip(test.prompts, test.tasks, strict=True)
    said = [predictor.predict_encoded(encoded[prompt], task) for prompt, task in asked]
    scores = np.stack([one.scores for one in said])
    strong, weak = pair
    both = ~np.isnan(test.scores[:, [strong, weak]]).any(axis=1)
    rows = np.flatnonzero(both)
    at = test.rows(rows)
    gains = at.scores[:, strong] - at.scores[:, weak]
    places = [predictor.tasks.index(task) if task in predictor.tasks else -1 for task in at.tasks]
    means = predictor.task_means[places]
    return Tested(
        seed=seed,
        train_prompts=len(train),
        test=test,
        scores=scores,
        expected_costs=expected_costs(train, test),
        gains=gains,
        pair_tasks=at.tasks,
        pair_outcomes=(at.scores[:, weak], at.scores[:, strong], at.costs[:, weak], at.costs[:, strong]),
        routed=(scores[:, strong] - scores[:, weak])[rows],
        by_length=_sign(train, pair) * _lengths(at),
        by_task_mean=means[:, strong] - means[:, weak],
        advantage_draws=_mean_draws(gains, seed=seed),
        in_domain_share=float(np.mean([one.is_in_domain for one in said])),
        calibration_error=calibration_error(said, test),
        below_lower_bound=_below(said, test),
        member_weights=tuple(float(weight) for weight in predictor.weights),
        decision_us=_decision_us(predictor, test),
    )


def _sign(train: OutcomeTable, pair: Pair) -> float:
    """+1 where longer prompts gain more from the strong model in training, else -1."""
    gains = train.scores[:, pair.strong] - train.scores[:, pair.weak]
    known = ~np.isnan(gains)
    lengths = _lengths(train)[known]
    return -1.0 if float((gains[known] * (lengths - lengths.mean())).sum()) < 0 else 1.0


def _lengths(table: OutcomeTable) -> Floats:
    return np.array([len(prompt) for prompt in table.prompts], dtype=np.float64)


def _mean_draws(values: Floats, *, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    return np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(500)])


def calibration_error(said: list[Prediction], test: OutcomeTable) -> float:
    """Mean distance between predicted and measured shares over tenths of the predictions, all models together."""
    predicted, measured = _cells(np.stack([one.probabilities for one in said]), test)
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    return float(np.mean([abs(predicted[part].mean() - measured[part].mean()) for part in parts]))


def _below(said: list[Prediction], test: OutcomeTable) -> float:
    """Share of the steps of the bound under which the measured mean lies: 5 % would be promised."""
    bounds = np.stack([one.lower_bounds for one in said])
    missed = total = 0
    for column in range(len(test.models)):
        known = ~np.isnan(test.scores[:, column])
        for bound in np.unique(bounds[known, column]):
            at = test.scores[known & (bounds[:, column] == bound), column]
            missed += int(at.mean() < bound) * len(at)
            total += len(at)
    return missed / max(total, 1)


def _cells(values: Floats, test: OutcomeTable) -> tuple[Floats, Floats]:
    known = ~np.isnan(test.scores)
    return values[known], test.scores[known]


def _decision_us(predictor: Predictor, test: OutcomeTable) -> Floats:
    """Microseconds of CPU that whole decisions take, one prompt at a time, encoding included."""
    found: list[float] = []
    for prompt, task in list(zip(test.prompts, test.tasks, strict=True))[:TIMED_PROMPTS]:
        started_ns = time.thread_time_ns()
        predictor.predict(prompt, task)
        found.append((time.thread_time_ns() - started_ns) / 1000)
    return np.array(found)
