"""How well a predictor would route, measured on prompts that it never saw: what `auterity routing evaluate` finds."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.outcomes import Floats, OutcomeTable
from auterity_dagster.relaycore.routing_curve import (
    CurvePoint,
    PairFigures,
    interval,
    pair_curve,
    pair_draws,
    pair_figures,
)
from auterity_dagster.training.routing.fit import encoded_prompts
from auterity_dagster.training.routing.held_out import TRAIN_SHARE, Pair, Tested, tested
from auterity_dagster.training.routing.mixture import MixturePoint, mixture, saving_at_equal_quality
from auterity_dagster.training.routing.unseen import UnseenTask, unseen_tasks

PROMPT_LIMIT = 24_000
MIN_TASK_PROMPTS = 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over the split seeds with a 95 % interval: bootstrap over prompts, pooled over the seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model over all its prompts; it has `cells` of them."""

    model: str
    mean_score: float
    mean_cost: float
    cells: int


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """One task's prompts alone."""

    task: str
    prompts: int
    apgr: float
    prompt_length: float


@dataclass(frozen=True, slots=True)
class SeedFigures:
    """One split."""

    seed: int
    train_prompts: int
    test_prompts: int
    apgr: float
    cpt50: float
    cpt80: float
    prompt_length: float
    in_domain_share: float
    member_weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured; figures about a pair are NaN where the strong model has no advantage."""

    prompts: int
    rows: int
    tasks: int
    missing_cells: int
    left_out_prompts: int
    models: tuple[ModelFigures, ...]
    strong: str
    weak: str
    is_routable: bool
    advice: str
    apgr: Estimate
    cpt50: Estimate
    cpt80: Estimate
    prompt_length: Estimate
    task_mean: Estimate
    by_task: tuple[TaskFigures, ...]
    apgr_mean_of_tasks: float
    curve: tuple[CurvePoint, ...]
    cost_quality: tuple[MixturePoint, ...]
    saving_at_equal_quality: float | None
    calibration_error: float
    below_lower_bound: float
    unseen_tasks: tuple[UnseenTask, ...]
    decision_us_p50: float
    decision_us_p95: float
    train_share: float
    seeds: tuple[SeedFigures, ...]
    elapsed_s: float


def evaluate(table: OutcomeTable, *, seeds: Sequence[int], strong: str | None, weak: str | None) -> Evaluation:
    """Train on 60 % of the prompts and measure on the rest, once a seed. Raises `Invalid` for an unknown model."""
    started_s, rows, whole = time.monotonic(), int((~np.isnan(table.scores)).sum()), len(table)
    if whole > PROMPT_LIMIT:
        table = table.rows(np.sort(np.random.default_rng(0).permutation(whole)[:PROMPT_LIMIT]))
    pair = chosen_pair(table, strong=strong, weak=weak)
    # One thread: waiting threads of the linear algebra would spin on the cores that the servers beside need.
    with threadpool_limits(1):
        encoded = dict(zip(table.prompts, encoded_prompts(table.prompts), strict=True))
        splits = [tested(table, encoded, pair, seed=seed) for seed in seeds]
        unseen = unseen_tasks(table, encoded, pair, seed=seeds[0])
    routed = _estimates(splits, lambda one: one.routed)
    by_task = _by_task(splits)
    is_routable, advice = _advice(table, pair, splits, routed[0])
    return Evaluation(
        prompts=whole,
        rows=rows,
        tasks=len(set(table.tasks)),
        missing_cells=int(np.isnan(table.scores).sum()),
        left_out_prompts=whole - len(table),
        models=_models(table),
        strong=table.models[pair.strong],
        weak=table.models[pair.weak],
        is_routable=is_routable,
        advice=advice,
        apgr=routed[0],
        cpt50=routed[1],
        cpt80=routed[2],
        prompt_length=_estimates(splits, lambda one: one.by_length)[0],
        task_mean=_estimates(splits, lambda one: one.by_task_mean)[0],
        by_task=by_task,
        apgr_mean_of_tasks=_mean([one.apgr for one in by_task]),
        curve=_curve(splits),
        cost_quality=tuple(mixture(splits[0].scores, splits[0].expected_costs, splits[0].test)),
        saving_at_equal_quality=_saving(splits),
        calibration_error=_mean([one.calibration_error for one in splits]),
        below_lower_bound=_mean([one.below_lower_bound for one in splits]),
        unseen_tasks=unseen,
        decision_us_p50=float(np.quantile(np.concatenate([one.decision_us for one in splits]), 0.5)),
        decision_us_p95=float(np.quantile(np.concatenate([one.decision_us for one in splits]), 0.95)),
        train_share=TRAIN_SHARE,
        seeds=tuple(_seed(one) for one in splits),
        elapsed_s=time.monotonic() - started_s,
    )


def chosen_pair(table: OutcomeTable, *, strong: str | None, weak: str | None) -> Pair:
    """Return the strong model (default: the best on average) and the weak one (default: the cheapest other)."""
    for name in (strong, weak):
        if name is not None and name not in table.models:
            raise Invalid(f"column model: there is no model {name!r}; it has {', '.join(table.models)}", field="model")
    scores, costs = table.mean_scores(), table.mean_costs()
    first = table.models.index(strong) if strong is not None else int(np.argmax(scores))
    others = [column for column in range(len(table.models)) if column != first]
    second = min(others, key=lambda column: (costs[column], -scores[column]))
    return Pair(strong=first, weak=table.models.index(weak) if weak is not None else second)


def _estimates(splits: Sequence[Tested], order: Callable[[Tested], Floats]) -> tuple[Estimate, Estimate, Estimate]:
    """APGR, CPT(50 %) and CPT(80 %) of taking prompts in this order, over all splits."""
    at: list[PairFigures] = []
    drawn: list[PairFigures] = []
    for one in splits:
        at.append(pair_figures(one.gains, order(one)))
        drawn += pair_draws(one.gains, order(one), seed=one.seed)
    return (
        _estimate([one.apgr for one in at], [one.apgr for one in drawn]),
        _estimate([one.cpt50 for one in at], [one.cpt50 for one in drawn]),
        _estimate([one.cpt80 for one in at], [one.cpt80 for one in drawn]),
    )


def _estimate(values: Sequence[float], drawn: Sequence[float]) -> Estimate:
    return Estimate(_mean(values), *interval(drawn))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _models(table: OutcomeTable) -> tuple[ModelFigures, ...]:
    scores, costs, cells = table.mean_scores(), table.mean_costs(), (~np.isnan(table.scores)).sum(axis=0)
    return tuple(
        ModelFigures(model, float(scores[column]), float(costs[column]), int(cells[column]))
        for column, model in enumerate(table.models)
    )


def _advice(table: OutcomeTable, pair: Pair, splits: Sequence[Tested], apgr: Estimate) -> tuple[bool, str]:
    """Say whether routing between the two is worth it, and what to do where it is not."""
    costs, scores = table.mean_costs(), table.mean_scores()
    strong, weak = table.models[pair.strong], table.models[pair.weak]
    advantage = interval(np.concatenate([one.advantage_draws for one in splits]).tolist())[0]
    if advantage <= 0:
        return False, f"not routable: {strong} is not reliably better than {weak}; choose by cost"
    if costs[pair.strong] <= costs[pair.weak] * (1 + 1e-9):
        is_equal = math.isclose(costs[pair.strong], costs[pair.weak], rel_tol=1e-9)
        reason = "costs no more than" if is_equal else "is cheaper than"
        return False, f"not worth routing: {strong} is better on average and {reason} {weak}; choose {strong}"
    if not apgr.low > 0.5:
        return False, "not routable: no order of the prompts is reliably better than a coin; choose by cost"
    gain = scores[pair.strong] - scores[pair.weak]
    return True, f"routable: prompts can be told apart ({strong} is {gain:.3f} better on average)"


def _by_task(splits: Sequence[Tested]) -> tuple[TaskFigures, ...]:
    found: list[TaskFigures] = []
    for task in sorted({task for one in splits for task in one.pair_tasks}):
        apgr: list[float] = []
        length: list[float] = []
        prompts = 0
        for one in splits:
            rows = np.array([other == task for other in one.pair_tasks])
            if rows.sum() >= MIN_TASK_PROMPTS:
                prompts = int(rows.sum())
                apgr.append(pair_figures(one.gains[rows], one.routed[rows]).apgr)
                length.append(pair_figures(one.gains[rows], one.by_length[rows]).apgr)
        if apgr:
            found.append(TaskFigures(task, prompts, _mean(apgr), _mean(length)))
    return tuple(found)


def _curve(splits: Sequence[Tested]) -> tuple[CurvePoint, ...]:
    """The mean of the splits' curves, point by point."""
    curves = [pair_curve(*one.pair_outcomes, one.routed) for one in splits]
    return tuple(
        CurvePoint(points[0].share, _mean([one.quality for one in points]), _mean([one.cost for one in points]))
        for points in zip(*curves, strict=True)
    )


def _saving(splits: Sequence[Tested]) -> float | None:
    found = [saving_at_equal_quality(mixture(one.scores, one.expected_costs, one.test), one.test) for one in splits]
    known = [one for one in found if one is not None]
    return sum(known) / len(known) if known else None


def _seed(one: Tested) -> SeedFigures:
    figures = pair_figures(one.gains, one.routed)
    return SeedFigures(
        seed=one.seed,
        train_prompts=one.train_prompts,
        test_prompts=len(one.test),
        apgr=figures.apgr,
        cpt50=figures.cpt50,
        cpt80=figures.cpt80,
        prompt_length=pair_figures(one.gains, one.by_length).apgr,
        in_domain_share=one.in_domain_share,
        member_weights=one.member_weights,
    )
