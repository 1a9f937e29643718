"""P-15: SFT and DPO, killed at any moment and resumed, end with the bytes of a run that nobody disturbed."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.neuroweaver.stage import Stage, StageOutcome, StageSpec, stage_key
from auterity_dagster.storage.object_store import ObjectStore
from tests.chaos.ledger_processes import SEED
from tests.chaos.training_kills import STEPS_BETWEEN_SAVES, Killer
from tests.training.rows import EXAMPLES, PAIRS

RECIPE = Path(__file__).parents[2] / "config" / "recipes" / "tiny_cpu.yaml"
STEPS = {Stage.SFT: 12, Stage.DPO: 12}
LONGER = {Stage.SFT: 120, Stage.DPO: 80}


@dataclass
class Trial:
    """The stages of one recipe over one store, and who kills them."""

    recipe: Recipe
    store: ObjectStore
    killer: Killer
    inputs: dict[str, str]
    expected: dict[str, float]
    rounds: int = 0

    def spec(self, stage: Stage) -> StageSpec:
        """A stage in a new folder: nothing of an earlier round is there to go on from."""
        self.rounds += 1
        return StageSpec(
            stage=stage,
            stage_key=stage_key(stage, recipe=self.recipe, inputs=self.inputs, code="0" * 64, extra=self.rounds),
            recipe=self.recipe,
            inputs=self.inputs,
            store=self.store.root,
            workdir=self.killer.folder / f"{stage}-{self.rounds}",
            expected=self.expected,
            cap_s=3600,
        )

    def steps(self, stage: Stage) -> int:
        """How many steps the recipe gives a stage."""
        block = self.recipe.sft if stage is Stage.SFT else self.recipe.dpo
        assert block is not None
        return block.steps or 0

    def undisturbed(self, stage: Stage) -> StageOutcome:
        outcome = self.killer.uninterrupted(self.spec(stage))
        if stage is Stage.SFT:
            self.inputs["sft"] = outcome.digest or ""
            self.expected["reference_log_probability"] = outcome.metrics["reference_log_probability"]
        return outcome


def trial(folder: Path, *, steps: dict[Stage, int], remembers_rng: bool = True) -> Trial:
    """Dropout makes the random states matter: what was drawn before a kill must not be drawn again."""
    values = load_recipe(RECIPE).model_dump(mode="json", by_alias=True)
    values["adapter"] |= {"dropout": 0.2}
    for stage in (Stage.SFT, Stage.DPO):
        values[stage.value] |= {"steps": steps[stage], "save_every": STEPS_BETWEEN_SAVES}
    store = ObjectStore(folder / "objects")
    killer = Killer(folder, Random(SEED), f"sqlite:///{folder}/mlflow.db", remembers_rng=remembers_rng)
    inputs = {
        "train": store.put_bytes(canonical_lines(EXAMPLES)),
        "validation": store.put_bytes(canonical_lines(EXAMPLES[:6])),
        "pairs": store.put_bytes(canonical_lines(PAIRS)),
    }
    made = Trial(Recipe.model_validate(values), store, killer, inputs, {})
    inputs["base"] = made.undisturbed(Stage.BASE).digest or ""
    return made


def kill_and_compare(made: Trial, *, kills: dict[Stage, int]) -> list[str]:
    """Return what was not as it must be after so many kills of each stage."""
    faults: list[str] = []
    for stage, wanted in kills.items():
        alone = made.undisturbed(stage)
        while wanted > 0:
            spec = made.spec(stage)
            before = sum(made.killer.kills.values())
            outcome = made.killer.killed(spec, wanted)
            wanted -= sum(made.killer.kills.values()) - before
            if outcome.digest != alone.digest:
                faults.append(f"{spec.workdir.name}: another adapter than undisturbed")
            runs, steps = made.killer.curve(spec)
            if runs != 1 or steps != list(range(1, made.steps(stage) + 1)):
                faults.append(f"{spec.workdir.name}: {runs} MLflow runs, loss at the steps {steps}")
    return faults


@pytest.mark.promise("P-15")
def test_killed_twice_each_stage_ends_with_the_same_bytes(tmp_path: Path, noted: dict[str, int]) -> None:
    made = trial(tmp_path, steps=STEPS)

    faults = kill_and_compare(made, kills={Stage.SFT: 1, Stage.DPO: 1})

    assert faults == []
    assert sum(made.killer.kills.values()) == 2
    noted["n"] = 2


@pytest.mark.chaos
@pytest.mark.promise("P-15")
@pytest.mark.timeout(3600)
def test_twenty_random_kills_change_nothing(tmp_path: Path, noted: dict[str, int]) -> None:
    made = trial(tmp_path, steps=LONGER)

    faults = kill_and_compare(made, kills={Stage.SFT: 10, Stage.DPO: 10})

    kills = made.killer.kills
    noted |= {"n": sum(kills.values()), "resumed_from_a_checkpoint": made.killer.resumes}
    noted |= {f"killed_{moment}": count for moment, count in kills.items()}
    assert faults == []
    assert sum(kills.values()) == 20
    assert min(kills.values()) > 0


@pytest.mark.chaos
@pytest.mark.control
@pytest.mark.promise("P-15", control=True)
def test_without_the_random_states_the_same_check_finds_another_adapter(tmp_path: Path) -> None:
    made = trial(tmp_path, steps=STEPS, remembers_rng=False)
    alone = made.undisturbed(Stage.SFT)

    # Killed after its first checkpoint, and with no other chance to be found.
    killed = made.killer.killed_after_a_checkpoint(made.spec(Stage.SFT))

    assert killed.resumed_from_step == STEPS_BETWEEN_SAVES
    assert killed.digest != alone.digest
