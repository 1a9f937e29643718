"""What a gate needs to know of a predictor: its choices and the posterior's on prompts that it never saw."""

from typing import NamedTuple

import numpy as np

from auterity_dagster.relaycore.outcomes import OutcomeTable, split
from auterity_dagster.relaycore.predicted_choice import posterior_choices, predicted_choices
from auterity_dagster.relaycore.predictor import Predictor
from auterity_dagster.relaycore.predictor_gate import HeldOut
from auterity_dagster.relaycore.routing_curve import PairFigures, pair_figures
from auterity_dagster.training.routing.evaluation import chosen_pair
from auterity_dagster.training.routing.held_out import calibration_error
from auterity_dagster.training.routing.mixture import expected_costs

LEARNED_SHARE = 0.75
SPLIT_SEED = 0


class Measured(NamedTuple):
    """The gate's evidence, and how well the prompts can be ordered between the best and the cheapest model."""

    held_out: HeldOut
    pair: PairFigures
    by_length: PairFigures
    strong: str
    weak: str
    in_domain_share: float


def learned_part(table: OutcomeTable) -> OutcomeTable:
    """Return the prompts that a predictor may learn from; the same table always gives the same ones."""
    return split(table, share=LEARNED_SHARE, seed=SPLIT_SEED)[0]


def measured(predictor: Predictor, table: OutcomeTable, *, floor: float) -> Measured:
    """Measure exactly this predictor on the prompts that it did not learn from."""
    train, test = split(table, share=LEARNED_SHARE, seed=SPLIT_SEED)
    said = [predictor.predict(prompt, task) for prompt, task in zip(test.prompts, test.tasks, strict=True)]
    costs = expected_costs(train, test)
    before = posterior_choices(train, test.tasks, floor=floor)
    after = predicted_choices(said, costs, before, floor=floor)
    complete = np.flatnonzero(~np.isnan(test.scores).any(axis=1))
    scores, paid = test.scores[complete], test.costs[complete]
    rows = np.arange(len(complete))
    pair = chosen_pair(train, strong=None, weak=None)
    ordered = np.stack([one.scores for one in said])[complete]
    gains = scores[:, pair.strong] - scores[:, pair.weak]
    lengths = np.array([float(len(test.prompts[row])) for row in complete.tolist()])
    return Measured(
        held_out=HeldOut(
            tasks=tuple(test.tasks[row] for row in complete.tolist()),
            posterior_scores=scores[rows, before[complete]],
            posterior_costs=paid[rows, before[complete]],
            predictor_scores=scores[rows, after[complete]],
            predictor_costs=paid[rows, after[complete]],
            calibration_error=calibration_error(said, test),
        ),
        pair=pair_figures(gains, ordered[:, pair.strong] - ordered[:, pair.weak]),
        by_length=pair_figures(gains, lengths),
        strong=table.models[pair.strong],
        weak=table.models[pair.weak],
        in_domain_share=float(np.mean([one.is_in_domain for one in said])),
    )
