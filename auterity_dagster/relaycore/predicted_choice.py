"""Which model the posterior chooses for a prompt, and which a predictor: the cheapest that is surely good enough."""

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.relaycore.outcomes import Floats, OutcomeTable
from auterity_dagster.relaycore.predictor import Prediction
from auterity_dagster.relaycore.quality import MAX_EVALUATION_WEIGHT, Quality


def posterior_choices(train: OutcomeTable, tasks: tuple[str, ...], *, floor: float) -> NDArray[np.intp]:
    """Return the model that the Beta posterior of each task chooses, learned from `train`."""
    costs = train.mean_costs()
    of_task: dict[str, int] = {}
    for task in set(tasks):
        rows = np.array([one == task for one in train.tasks])
        bounds = [_posterior(train.scores[rows, column]).lower_bound for column in range(len(train.models))]
        of_task[task] = cheapest(np.array(bounds), costs, floor=floor)
    return np.array([of_task[task] for task in tasks], dtype=np.intp)


def predicted_choices(
    said: list[Prediction], costs: Floats, fallback: NDArray[np.intp], *, floor: float
) -> NDArray[np.intp]:
    """Return the model that the predictor chooses; out of its domain the fallback's."""
    return np.array(
        [
            cheapest(one.lower_bounds, expected, floor=floor) if one.is_in_domain else other
            for one, expected, other in zip(said, costs, fallback, strict=True)
        ],
        dtype=np.intp,
    )


def cheapest(lower_bounds: Floats, costs: Floats, *, floor: float) -> int:
    """Return the cheapest model whose lower bound reaches the floor, else the one with the best lower bound."""
    good = np.flatnonzero(lower_bounds >= floor)
    return int(good[np.argmin(costs[good])]) if len(good) else int(np.argmax(lower_bounds))


def _posterior(scores: Floats) -> Quality:
    known = scores[~np.isnan(scores)]
    if not len(known):
        return Quality()
    weight, share = min(len(known), MAX_EVALUATION_WEIGHT), float(known.mean())
    return Quality(1 + weight * share, 1 + weight * (1 - share))
