"""What the asset does for each way in which a training process can end, with a child that ends as it is told."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from time import time

import dagster as dg
import pytest

from auterity_dagster.neuroweaver.recipe import Recipe
from auterity_dagster.neuroweaver.stage import ExitCode, Stage, StageOutcome, StageSpec
from auterity_dagster.neuroweaver.stage_policy import Attempts, Decision, Ended, Then, decide
from auterity_dagster.resources.training_launcher import TrainingLauncher
from auterity_dagster.resources.training_ledger import MachineTime
from auterity_dagster.resources.training_process import command_of, is_silent
from auterity_dagster.storage.workdir import Workdir
from tests.training.conftest import MakeRecipe


@dataclass
class Asked:
    """One run of an asset that asks for a stage."""

    spec: StageSpec
    launcher: TrainingLauncher

    def run(self, *told: object) -> tuple[StageOutcome | None, str]:
        """Return the outcome, or None and why the asset failed."""
        self.spec.workdir.mkdir(parents=True, exist_ok=True)
        (self.spec.workdir / "told.json").write_text(json.dumps(told))
        found: list[StageOutcome] = []
        machine = MachineTime(nusd_per_hour=3_600_000_000_000)

        @dg.asset
        def stage(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            found.append(self.launcher.run(context, self.spec, machine=machine))
            return dg.MaterializeResult()

        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([stage], instance=instance, raise_on_error=False)
        failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        said = " ".join(f"{error.cause or error}" for error in failures if error is not None)
        assert not failures or not found
        assert machine.cost_nusd > 0 or not self.launches
        return (found or [None])[0], said

    @property
    def launches(self) -> list[dict[str, int]]:
        path = self.spec.workdir / "launches.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def asked(tmp_path: Path, tiny_recipe: Recipe) -> Asked:
    launcher = TrainingLauncher(data_dir=str(tmp_path), module="tests.training.told_stage", silence_limit_s=6.0)
    spec = StageSpec(
        stage=Stage.SFT,
        stage_key="a" * 64,
        recipe=tiny_recipe,
        inputs={},
        store=tmp_path / "objects",
        workdir=launcher.workdir("a" * 64),
        cap_s=60,
    )
    return Asked(spec, launcher)


def test_what_can_go_on_is_started_again_until_it_is_verified(asked: Asked) -> None:
    outcome, _ = asked.run("die", "checkpoint, die", "75 signal", 71, 0)

    assert outcome is not None
    assert outcome.code is ExitCode.VERIFIED
    assert [launch["halvings"] for launch in asked.launches] == [0, 0, 0, 0, 1]


def test_a_frozen_process_is_ended_and_started_again(asked: Asked) -> None:
    outcome, _ = asked.run("freeze", 0)

    assert outcome is not None
    assert len(asked.launches) == 2


def test_a_running_process_is_adopted(asked: Asked) -> None:
    workdir = Workdir(asked.spec.workdir)
    is_locked, may_end = threading.Event(), threading.Event()

    def other_run() -> None:
        with workdir.held():
            is_locked.set()
            may_end.wait()
            workdir.finish(StageOutcome(code=ExitCode.VERIFIED, reason="by the other", digest="e" * 64))

    other = threading.Thread(target=other_run)
    other.start()
    is_locked.wait()
    threading.Timer(0.5, may_end.set).start()

    outcome, _ = asked.run()
    other.join()

    assert outcome is not None
    assert outcome.reason == "by the other"
    assert asked.launches == []


def test_a_stage_whose_time_is_up_waits_for_a_person(asked: Asked) -> None:
    outcome, said = asked.run("75 cap")

    assert outcome is None
    assert "paused: told 75 cap; raise budget.cap_hours to go on" in said


STOPPED = StageOutcome(code=ExitCode.STOPPED, reason="stopped at step 3 of 20, checkpoint safe", stopped_by="cap")


def ended(code: int, *, has_outcome: bool = True, has_progressed: bool = False) -> Ended:
    outcome = StageOutcome(code=ExitCode(code), reason="words", digest="d" * 64) if has_outcome else None
    return Ended(code, outcome, has_progressed)


@pytest.mark.parametrize("code", [64, 65, 66, 76, 79])
def test_what_would_end_the_same_way_again_fails(code: int) -> None:
    assert decide(ended(code), Attempts(), batch=4).then is Then.FAIL


@pytest.mark.parametrize(
    ("found", "attempts", "batch", "then"),
    [
        (ended(0), Attempts(), 4, Then.FINISH),
        (ended(71), Attempts(), 4, Then.WITH_HALF_BATCH),
        (ended(71), Attempts(halvings=1), 4, Then.FAIL),
        (ended(71), Attempts(), 1, Then.FAIL),
        (ended(71), Attempts(), None, Then.FAIL),
        (ended(74), Attempts(store_failures=4), 4, Then.AGAIN),
        (ended(74), Attempts(store_failures=5), 4, Then.FAIL),
        (ended(75), Attempts(), 4, Then.AGAIN),
        (Ended(75, STOPPED, has_progressed=True), Attempts(), 4, Then.PAUSE),
        (ended(79, has_outcome=False), Attempts(), 4, Then.ADOPT),
        (ended(64, has_outcome=False), Attempts(), 4, Then.FAIL),
        (Ended(-9, None, has_progressed=False), Attempts(deaths=1), 4, Then.AGAIN),
        (Ended(-9, None, has_progressed=False), Attempts(deaths=2), 4, Then.FAIL),
        (Ended(-9, None, has_progressed=True), Attempts(deaths=2), 4, Then.AGAIN),
    ],
    ids=lambda value: value.value if isinstance(value, Then) else "",
)
def test_each_ending_has_its_consequence(found: Ended, attempts: Attempts, batch: int | None, then: Then) -> None:
    assert decide(found, attempts, batch=batch).then is then


def test_a_store_that_fails_is_given_more_time_each_time() -> None:
    decisions: list[Decision] = [decide(ended(74), Attempts(store_failures=count), batch=4) for count in range(5)]

    assert [decision.wait_s for decision in decisions] == [2, 4, 8, 16, 32]


def test_silence_counts_from_the_last_beat_or_the_start(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    assert is_silent(workdir, since=1000, now=1121, limit_s=120)
    assert not is_silent(workdir, since=1000, now=1119, limit_s=120)

    with workdir.held():
        pass

    now = time()
    assert not is_silent(workdir, since=1000, now=now + 60, limit_s=120)
    assert is_silent(workdir, since=1000, now=now + 180, limit_s=120)


def test_seconds_of_all_attempts_add_up(tmp_path: Path) -> None:
    for _ in range(3):
        attempt = Workdir(tmp_path)
        attempt.began -= 100
        with attempt.held():
            pass

    beat = Workdir(tmp_path).heartbeat()
    assert beat is not None
    assert 300 <= beat.elapsed_s < 310


def test_several_processes_are_started_by_accelerate(asked: Asked, recipe_with: MakeRecipe) -> None:
    recipe = recipe_with(hardware={"processes": 2, "launcher": "accelerate"})

    command = command_of(asked.spec.model_copy(update={"recipe": recipe}), Path("spec.json"), module="stage")

    assert command[1:5] == ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes"]
    assert command[-5:] == ["-m", "stage", "sft", "--spec", "spec.json"]
    assert command_of(asked.spec, Path("spec.json"), module="stage")[1:3] == ["-m", "stage"]
