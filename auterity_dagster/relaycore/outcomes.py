"""What several models made of the same prompts: the table from which routing is learned and on which it is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.errors import Invalid

Floats = NDArray[np.float64]
MIN_PROMPTS = 40
"""Fewer cannot be split into parts of which each still says something."""


class Outcome(NamedTuple):
    """One model's answer to one prompt: how good it was (0 to 1) and what it cost, in any one currency."""

    prompt: str
    task: str
    model: str
    score: float
    cost: float


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """One row a prompt, one column a model; a cell that nobody measured is NaN in `scores` and in `costs`."""

    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    scores: Floats
    costs: Floats

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, chosen: NDArray[np.intp]) -> "OutcomeTable":
        """Return the table of these rows only."""
        places: list[int] = chosen.tolist()
        return OutcomeTable(
            prompts=tuple(self.prompts[place] for place in places),
            tasks=tuple(self.tasks[place] for place in places),
            models=self.models,
            scores=self.scores[chosen],
            costs=self.costs[chosen],
        )

    def mean_scores(self) -> Floats:
        """Return each model's mean score over the prompts that it answered."""
        return np.nanmean(self.scores, axis=0)

    def mean_costs(self) -> Floats:
        """Return each model's mean cost over the prompts that it answered."""
        return np.nanmean(self.costs, axis=0)


def outcome_table(outcomes: Sequence[Outcome]) -> OutcomeTable:
    """Arrange outcomes by prompt and model; several of one cell are averaged.

    Raises `Invalid` with `details["field"]` naming the column and a message that says what was expected there.
    """
    models = sorted({one.model for one in outcomes})
    if len(models) < 2:
        raise Invalid(f"column model: at least 2 different models are needed, found {len(models)}", field="model")
    places: dict[tuple[str, str], int] = {}
    for one in outcomes:
        places.setdefault((one.task, one.prompt), len(places))
    if len(places) < MIN_PROMPTS:
        raise Invalid(
            f"column prompt: at least {MIN_PROMPTS} different prompts are needed, found {len(places)}", field="prompt"
        )
    column = {model: index for index, model in enumerate(models)}
    sums, costs = np.zeros((len(places), len(models))), np.zeros((len(places), len(models)))
    counts = np.zeros((len(places), len(models)))
    for one in outcomes:
        cell = places[one.task, one.prompt], column[one.model]
        sums[cell] += one.score
        costs[cell] += one.cost
        counts[cell] += 1
    with np.errstate(invalid="ignore"):
        mean_scores, mean_costs = sums / counts, costs / counts
    return OutcomeTable(
        prompts=tuple(prompt for _, prompt in places),
        tasks=tuple(task for task, _ in places),
        models=tuple(models),
        scores=mean_scores,
        costs=mean_costs,
    )


def split(table: OutcomeTable, *, share: float, seed: int) -> tuple[OutcomeTable, OutcomeTable]:
    """Return two tables, the first with `share` of the prompts; the same prompt is never in both."""
    names = sorted(set(table.prompts))
    drawn: list[int] = np.random.default_rng(seed).permutation(len(names)).tolist()
    first = {names[index] for index in drawn[: round(share * len(names))]}
    is_first = np.array([prompt in first for prompt in table.prompts])
    return table.rows(np.flatnonzero(is_first)), table.rows(np.flatnonzero(~is_first))
