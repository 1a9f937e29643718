"""GRPO with the tiny model: it starts where the last stage ended, and stops where rewards say nothing."""

from pathlib import Path

import pytest

from auterity_dagster.neuroweaver.recipe import Recipe
from auterity_dagster.neuroweaver.stage import ExitCode, Stage
from tests.training.conftest import Bench, Chain, MakeRecipe

GRPO = {
    "prompts": 6,
    "group": 4,
    "steps": 4,
    "batch": 8,
    "accumulate": 1,
    "learning_rate": 5e-4,
    "beta": 0.04,
    "temperature": 1.0,
    "max_new_tokens": 32,
    "rewards": {"grounded": 0.5, "next_step": 0.3, "length": 0.2},
    "save_every": 2,
}


@pytest.fixture
def recipe(tiny_recipe: Recipe) -> Recipe:
    values = tiny_recipe.model_dump(mode="json", by_alias=True)
    return Recipe.model_validate(values | {"grpo": GRPO})


def test_groups_that_are_all_worth_the_same_end_the_stage(chain: Chain, recipe: Recipe, tmp_path: Path) -> None:
    """The tiny model writes to the limit and offers nothing: every program gives every answer the same."""
    bench = Bench(chain.bench.folder, recipe, chain.bench.store, dict(chain.bench.inputs))
    recorded = chain.sft.metrics["reference_log_probability"]

    outcome = bench.run(Stage.GRPO, expected={"reference_log_probability": recorded}, workdir=tmp_path)

    assert outcome.code is ExitCode.NOT_LEARNED
    assert outcome.reason == "stopped at step 2: 100% of the groups have no spread: nothing is left to learn from"
    assert '"rewards/held_out/mean"' in (tmp_path / "events.jsonl").read_text()


def test_another_start_than_the_last_stage_left_is_refused(chain: Chain, recipe: Recipe, tmp_path: Path) -> None:
    bench = Bench(chain.bench.folder, recipe, chain.bench.store, dict(chain.bench.inputs))

    outcome = bench.run(Stage.GRPO, expected={"reference_log_probability": -9.0}, workdir=tmp_path)

    assert outcome.code is ExitCode.DATA_INVALID
    assert "the SFT adapter had -9.0000" in outcome.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beta": 0}, "grpo.beta"),
        ({"batch": 6}, "6 answers a step are no whole groups of 4"),
        ({"rewards": {"grounded": 0.5}}, "do not sum to 1"),
        ({"rewards": {"judge": 1.0}}, "rewards"),
    ],
    ids=["beta", "groups", "weights", "names"],
)
def test_a_grpo_recipe_that_cannot_be_right_is_refused(
    recipe_with: MakeRecipe, tiny_recipe: Recipe, changes: dict[str, object], said: str
) -> None:
    values = tiny_recipe.model_dump(mode="json", by_alias=True)
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(values | {"grpo": GRPO | changes})
