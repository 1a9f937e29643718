"""Tasks that were held out altogether: is their strangeness noticed, and what would the predictor be worth there?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from auterity_dagster.relaycore.outcomes import OutcomeTable
from auterity_dagster.relaycore.predictor import Encoded
from auterity_dagster.relaycore.routing_curve import pair_figures
from auterity_dagster.training.routing.fit import learn
from auterity_dagster.training.routing.held_out import Pair

MIN_PROMPTS = 100
LOOKED_AT = 3


@dataclass(frozen=True, slots=True)
class UnseenTask:
    """One task that a predictor was not shown.

    `noticed` is the share of its prompts that are out of domain by their words alone, its unknown name left aside;
    `apgr` is what the predictor's order would be worth there: near 0.5, so the pool's mean decides instead.
    """

    task: str
    prompts: int
    noticed: float
    apgr: float


def unseen_tasks(
    table: OutcomeTable, encoded: Mapping[str, Encoded], pair: Pair, *, seed: int
) -> tuple[UnseenTask, ...]:
    """Hold out the largest tasks, one at a time, where there are at least three."""
    counts = Counter(table.tasks)
    large = [task for task, count in counts.most_common(LOOKED_AT) if count >= MIN_PROMPTS]
    if len(counts) < 3:
        return ()
    return tuple(_unseen(table, encoded, pair, task, seed=seed) for task in large)


def _unseen(table: OutcomeTable, encoded: Mapping[str, Encoded], pair: Pair, task: str, *, seed: int) -> UnseenTask:
    is_held_out = np.array([one == task for one in table.tasks])
    known, test = table.rows(np.flatnonzero(~is_held_out)), table.rows(np.flatnonzero(is_held_out))
    predictor = learn(known, [encoded[prompt] for prompt in known.prompts], seed=seed).predictor
    # Under a name that it knows, so that only the words can tell.
    familiar = predictor.tasks[0]
    said = [predictor.predict_encoded(encoded[prompt], familiar) for prompt in test.prompts]
    unnamed = np.stack([predictor.predict_encoded(encoded[prompt], None).scores for prompt in test.prompts])
    strong, weak = pair
    gains = test.scores[:, strong] - test.scores[:, weak]
    both = ~np.isnan(gains)
    figures = pair_figures(gains[both], (unnamed[:, strong] - unnamed[:, weak])[both])
    return UnseenTask(task, len(test), float(np.mean([not one.is_in_domain for one in said])), figures.apgr)
