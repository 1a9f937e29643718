"""Recipes are strict: what ships is valid, and a wrong number or name is said with its file and field."""

from pathlib import Path

import pytest

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.recipe import Budget, load_recipe

RECIPES = Path(__file__).parents[2] / "config" / "recipes"
DEFAULT = (RECIPES / "smollm2_cpu_qlora.yaml").read_text()


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in DEFAULT
    path = folder / "smollm2_cpu_qlora.yaml"
    path.write_text(DEFAULT.replace(old, new))
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert load_recipe(path).recipe == path.stem


def test_the_quick_recipe_has_the_stages_of_the_default_one() -> None:
    default = load_recipe(RECIPES / "smollm2_cpu_qlora.yaml")
    quick = load_recipe(RECIPES / "smollm2_cpu_qlora_quick.yaml")

    assert quick.adapter == default.adapter
    assert quick.base == default.base
    assert quick.dpo is not None


def test_equal_recipes_have_equal_digests_and_a_changed_number_another(tmp_path: Path) -> None:
    default = load_recipe(RECIPES / "smollm2_cpu_qlora.yaml")
    commented = load_recipe(changed(tmp_path, "version: 2", "version: 2  # second"))
    other = load_recipe(changed(tmp_path, "seed: 42", "seed: 43"))

    assert commented.digest == default.digest
    assert other.digest != default.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate: 5.0e-4", "learning_rate: 5", "sft.learning_rate: Input should be less than or equal to 0.01"),
        ("steps: 100", "stepz: 80", "sft.stepz: Extra inputs are not permitted"),
        ("steps: 100", "steps: 100, epochs: 2", "sft: give either steps or epochs"),
        ("packing: false", "packing: true", "data.packing: Input should be False"),
        ("kind: qlora", "kind: lora", "plain LoRA is never called QLoRA"),
        ("grpo: null", "grpo: {group: 8}", "grpo.beta: Field required"),
        ('cap_usd: "3.00"', 'cap_usd: "half"', "budget.cap_usd: String should match pattern"),
        ('judge_cap_usd: "2.00"', 'judge_cap_usd: "3.75"', "judge_cap_usd is above cap_usd"),
        ("processes: 1", "processes: 2", "more than one process needs the launcher"),
        ("seed: 42", "seed: [", "while parsing"),
        ("recipe: smollm2_cpu_qlora", "recipe: other", "the file is named smollm2_cpu_qlora"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = changed(tmp_path, old, new)

    with pytest.raises(ConfigurationInvalid) as refused:
        load_recipe(path)

    assert str(path) in refused.value.message
    assert message in refused.value.message


def test_a_missing_recipe_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        load_recipe(tmp_path / "absent.yaml")


def test_a_budget_can_be_made_smaller_and_judges_keep_their_share_of_it() -> None:
    budget = Budget(cap_usd="3.00", cap_hours=2, judge_cap_usd="2.00")

    smaller = budget.within(1_500_000_000)

    assert (smaller.cap_usd, smaller.judge_cap_usd, smaller.cap_hours) == ("1.50", "1.00", 2)
    assert budget.within(9_000_000_000) is budget
