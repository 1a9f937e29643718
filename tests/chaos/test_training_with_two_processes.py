"""Two processes train what one would: launched by accelerate, on the CPU over gloo, with the same rows in each step."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.neuroweaver.stage import ExitCode, Stage, StageOutcome, StageSpec, stage_key
from auterity_dagster.resources.training_process import command_of
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.workdir import Workdir
from tests.training.rows import EXAMPLES, PAIRS

RECIPE = Path(__file__).parents[2] / "config" / "recipes" / "tiny_cpu.yaml"
ROOT = Path(__file__).parents[2]
PATIENCE_S = 240

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]


class Machine:
    """Runs stages on one store, as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ObjectStore(folder / "objects")
        self.inputs = {
            "train": self.store.put_bytes(canonical_lines(EXAMPLES)),
            "validation": self.store.put_bytes(canonical_lines(EXAMPLES[:6])),
            "pairs": self.store.put_bytes(canonical_lines(PAIRS)),
        }
        self.inputs["base"] = self.run(Stage.BASE, recipe(1), "base").digest or ""

    def spec(self, stage: Stage, with_recipe: Recipe, name: str, **changes: object) -> StageSpec:
        return StageSpec.model_validate(
            {
                "stage": stage,
                "stage_key": stage_key(stage, recipe=with_recipe, inputs=self.inputs, code="0" * 64),
                "recipe": with_recipe,
                "inputs": self.inputs,
                "store": self.store.root,
                "workdir": self.folder / name,
                "cap_s": 3600,
            }
            | changes
        )

    def start(self, spec: StageSpec) -> subprocess.Popen[bytes]:
        spec.workdir.mkdir(parents=True, exist_ok=True)
        path = spec.workdir / "spec.json"
        path.write_text(spec.model_dump_json(by_alias=True))
        command = command_of(spec, path, module="auterity_dagster.training")
        with (self.folder / "stderr").open("ab") as said:
            return subprocess.Popen(
                command, cwd=ROOT, stderr=said, stdout=said, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    def run(self, stage: Stage, with_recipe: Recipe, name: str, **changes: object) -> StageOutcome:
        spec = self.spec(stage, with_recipe, name, **changes)
        self.start(spec).wait(timeout=PATIENCE_S)
        outcome = Workdir(spec.workdir).outcome()
        assert outcome is not None, (self.folder / "stderr").read_text()[-3000:]
        assert outcome.code is ExitCode.VERIFIED, outcome.reason
        return outcome

    def losses(self, name: str) -> list[float]:
        lines = (self.folder / name / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event["values"]["loss"] for event in events if "loss" in event["values"]]


def recipe(processes: int, *, steps: int = 20) -> Recipe:
    values = load_recipe(RECIPE).model_dump(mode="json", by_alias=True)
    values["hardware"] |= {"processes": processes, "launcher": "accelerate" if processes > 1 else "subprocess"}
    values["sft"] |= {"steps": steps}
    return Recipe.model_validate(values)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("two-processes"))


def test_two_processes_learn_what_one_does(machine: Machine) -> None:
    alone = machine.run(Stage.SFT, recipe(1), "alone")
    shared = machine.run(Stage.SFT, recipe(2), "shared")

    assert shared.facts["rows_a_step"] == "2 x 2 x 1"
    assert machine.losses("shared") == pytest.approx(machine.losses("alone"), abs=1e-3)
    one, two = (
        load_file(machine.store.checkout(outcome.digest or "") / "adapter_model.safetensors")
        for outcome in (alone, shared)
    )
    assert max(abs(one[name] - two[name]).max() for name in one) < 1e-2

    machine.inputs["sft"] = shared.digest or ""
    expected = {"reference_log_probability": shared.metrics["reference_log_probability"]}
    preferred = machine.run(Stage.DPO, recipe(2), "dpo", expected=expected)
    assert abs(preferred.metrics["first_margin"]) <= 1e-4


def test_told_to_stop_both_stop_at_the_same_step_and_go_on_from_it(machine: Machine) -> None:
    spec = machine.spec(Stage.SFT, recipe(2, steps=2000), "stopped")
    launcher = machine.start(spec)
    events = spec.workdir / "events.jsonl"
    while not events.is_file() or b'"progress"' not in events.read_bytes():
        assert launcher.poll() is None, (machine.folder / "stderr").read_text()[-3000:]
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(timeout=PATIENCE_S)

    outcome = Workdir(spec.workdir).outcome()
    assert outcome is not None
    assert outcome.code is ExitCode.STOPPED, outcome.reason
    checkpoint = Workdir(spec.workdir).checkpoint_names()[-1]
    again = machine.start(spec)
    while f"from the checkpoint of step {int(checkpoint[5:])}" not in events.read_text():
        assert again.poll() is None, (machine.folder / "stderr").read_text()[-3000:]
    again.kill()
    again.wait()
