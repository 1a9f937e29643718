"""Which rows and items a candidate gets: those of its recipe's families, in an order made from its seed."""

from collections.abc import Iterable
from random import Random

from auterity_dagster.neuroweaver.example import EvaluationItem, Split, TrainingExample
from auterity_dagster.neuroweaver.recipe import Recipe


def training_rows(rows: Iterable[TrainingExample], recipe: Recipe, *, split: Split) -> tuple[TrainingExample, ...]:
    """Return a split's rows of the recipe's families, shuffled by the recipe's seed.

    The order does not depend on the order of `rows`, so a stage that uses the first N uses the same N everywhere.
    """
    chosen = [row for row in rows if row.split is split and row.family in recipe.data.families]
    chosen.sort(key=lambda row: row.example_id)
    Random(f"{recipe.seed}:{split}").shuffle(chosen)  # noqa: S311 - a repeatable order, no secret
    return tuple(chosen)


def preference_prompts(rows: Iterable[TrainingExample], recipe: Recipe) -> tuple[TrainingExample, ...]:
    """Return the train rows whose prompts are answered for AI feedback: not those that SFT saw, where rows allow it."""
    wanted = recipe.preferences.prompts if recipe.preferences else 0
    ordered = training_rows(rows, recipe, split=Split.TRAIN)
    seen = (recipe.sft.steps or 0) * recipe.sft.rows_per_step * recipe.hardware.processes
    unseen = ordered[seen:] if recipe.sft.steps is not None else ()
    return (*unseen, *ordered)[:wanted]


def evaluation_items(items: Iterable[EvaluationItem], recipe: Recipe) -> tuple[EvaluationItem, ...]:
    """Return the items of the recipe's families, at most `items_per_family` of each, in the suite's order."""
    chosen: list[EvaluationItem] = []
    for family in recipe.data.families:
        chosen += [item for item in items if item.family is family][: recipe.evaluation.items_per_family]
    return tuple(chosen)
