"""Training that is of no use ends at once, and less memory or another accumulation trains the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.recipe import Recipe
from auterity_dagster.neuroweaver.stage import ExitCode, Stage
from auterity_dagster.storage.workdir import Workdir
from auterity_dagster.training.stages import is_out_of_memory
from tests.training.conftest import Bench, Chain, MakeRecipe


def bench_with(chain: Chain, recipe: Recipe) -> Bench:
    return Bench(folder=chain.bench.folder, recipe=recipe, store=chain.bench.store, inputs=dict(chain.bench.inputs))


def test_a_loss_that_is_no_number_ends_training_at_its_step(chain: Chain, tmp_path: Path) -> None:
    bench = bench_with(chain, chain.bench.recipe)
    folder = bench.store.fetch_bundle(bench.inputs["base"], tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items() if "norm" in name}
    (folder / "model.safetensors").chmod(0o644)
    save_file(weights | broken, folder / "model.safetensors", metadata={"format": "pt"})
    bench.inputs["base"] = bench.store.put_bundle(folder)

    outcome = bench.run(Stage.SFT, workdir=tmp_path / "work")

    assert outcome.code is ExitCode.NOT_LEARNED
    assert outcome.reason == "loss is not a finite number at step 1"
    assert Workdir(tmp_path / "work").checkpoint_names() == ()


def test_an_adapter_that_does_not_move_ends_training(chain: Chain, recipe_with: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_with(sft={"learning_rate": 1e-30, "steps": 40, "save_every": 40})

    outcome = bench_with(chain, recipe).run(Stage.SFT, workdir=tmp_path)

    assert outcome.code is ExitCode.NOT_LEARNED
    assert "trained tensors did not move" in outcome.reason
    assert Workdir(tmp_path).checkpoint_names() == ()


def test_half_the_batch_twice_as_often_trains_the_same(chain: Chain, tmp_path: Path) -> None:
    halved = chain.bench.run(Stage.SFT, halvings=1, workdir=tmp_path)

    assert halved.facts["rows_a_step"] == "1 x 2 x 2, the batch halved for want of memory"
    for figure in ("first_loss", "last_loss", "held_out_loss_after"):
        assert halved.metrics[figure] == pytest.approx(chain.sft.metrics[figure], abs=1e-4)


def test_a_stage_out_of_time_stops_at_a_checkpoint_and_says_why(chain: Chain, tmp_path: Path) -> None:
    late = Workdir(tmp_path)
    late.began -= 700
    with late.held():
        pass
    workdir = Workdir(tmp_path)

    with workdir.held():
        outcome = chain.bench.run(Stage.SFT, within=workdir, workdir=tmp_path)

    assert outcome.code is ExitCode.STOPPED
    assert outcome.stopped_by == "cap"
    assert outcome.reason == "stopped at step 1 of 20, checkpoint safe"
    assert outcome.elapsed_s > 700
    assert Workdir(tmp_path).checkpoint_names() == ("step-000001",)


def test_an_allocation_that_fails_is_known_by_its_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "halvings", "share"),
    [(4, 2, 1, 0, (4, 2)), (4, 2, 2, 0, (4, 1)), (4, 1, 2, 0, (2, 1)), (4, 2, 2, 1, (2, 2)), (8, 3, 3, 1, (4, 2))],
)
def test_the_rows_of_a_step_stay_the_same(
    recipe_with: MakeRecipe, batch: int, accumulate: int, processes: int, halvings: int, share: tuple[int, int]
) -> None:
    stage = recipe_with(sft={"batch": batch, "accumulate": accumulate}).sft

    found = stage.per_process(processes=processes, halvings=halvings)

    assert found == share
    assert found.batch * found.accumulate * processes == stage.rows_per_step


def test_rows_that_cannot_be_shared_are_refused(recipe_with: MakeRecipe) -> None:
    with pytest.raises(ValueError, match="sft: neither accumulate nor batch can be shared by 3 processes"):
        recipe_with(hardware={"processes": 3, "launcher": "accelerate"}, dpo={"batch": 3})
    with pytest.raises(Invalid, match="a batch of 3 cannot be halved"):
        recipe_with(sft={"batch": 3}).sft.per_process(processes=1, halvings=1)
