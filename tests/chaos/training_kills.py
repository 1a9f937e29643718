"""Killing a training stage again and again, and what its checker looks for afterwards."""

import multiprocessing
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mlflow.tracking import MlflowClient

from auterity_dagster.assets.neuroweaver.curves import CurveForwarder
from auterity_dagster.mlflow.tracking import MlflowTracking
from auterity_dagster.neuroweaver.stage import ExitCode, StageOutcome, StageSpec
from auterity_dagster.storage.workdir import Workdir
from tests.chaos.training_victim import PRELOADED, train

MOMENTS = ("save", "step", "outside")
TOUCHES_OF_A_SAVE = 60
STEPS_BETWEEN_SAVES = 5
PATIENCE_S = 120


@dataclass
class Killer:
    """Runs stages in forked processes and kills them at moments drawn from a seed."""

    folder: Path
    random: Random
    mlflow_url: str
    remembers_rng: bool = True
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOMENTS, 0))
    resumes: int = 0

    def __post_init__(self) -> None:
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(PRELOADED)
        self._tracking = MlflowTracking(self.mlflow_url)

    def uninterrupted(self, spec: StageSpec) -> StageOutcome:
        """Run a stage to its end in a folder of its own."""
        alone = spec.model_copy(update={"workdir": self.folder / f"{spec.stage}-alone"})
        self._launch(alone, moment="", kill_at=None)
        return finished(alone)

    def killed(self, spec: StageSpec, kills: int) -> StageOutcome:
        """Run a stage to its end although it is killed so often; it may end before the last kill finds it."""
        for _ in range(kills):
            moment = self.random.choice(MOMENTS)
            most = TOUCHES_OF_A_SAVE if moment == "save" else 2 * STEPS_BETWEEN_SAVES
            if not self._launch(spec, moment=moment, kill_at=self.random.randint(1, most)):
                return finished(spec)
            self.kills[moment] += 1
        self._launch(spec, moment="", kill_at=None)
        return finished(spec)

    def killed_after_a_checkpoint(self, spec: StageSpec) -> StageOutcome:
        """Run a stage that is killed once, between its first and its second checkpoint."""
        assert self._launch(spec, moment="sealed", kill_at=STEPS_BETWEEN_SAVES)
        self._launch(spec, moment="", kill_at=None)
        return finished(spec)

    def curve(self, spec: StageSpec) -> tuple[int, list[int]]:
        """Return how many MLflow runs the stage has, and the steps of its loss as they stand there."""
        client = MlflowClient(tracking_uri=self.mlflow_url)
        runs = client.search_runs(
            [each.experiment_id for each in client.search_experiments()],
            filter_string=f"tags.`auterity.key` = '{spec.stage_key}'",
        )
        return len(runs), sorted(point.step for point in client.get_metric_history(runs[0].info.run_id, "loss"))

    def _launch(self, spec: StageSpec, *, moment: str, kill_at: int | None) -> bool:
        """Start the stage as its asset does; return True if it was killed."""
        spec.workdir.mkdir(parents=True, exist_ok=True)
        had_checkpoint = bool(Workdir(spec.workdir).checkpoint_names())
        run_id = self._tracking.start_run(experiment="scope", name=str(spec.stage), key=spec.stage_key, tags={})
        events = spec.workdir / "events.jsonl"
        inside = kill_at if moment in ("save", "step", "sealed") else None
        process = self._processes.Process(
            target=train,
            args=(spec.model_dump_json(by_alias=True),),
            kwargs={"kill_at": inside, "moment": moment, "remembers_rng": self.remembers_rng},
        )
        seen = _steps(events)
        process.start()
        deadline = time.monotonic() + PATIENCE_S
        while process.is_alive():
            process.join(timeout=0.005)
            if moment == "outside" and kill_at is not None and _steps(events) >= seen + kill_at:
                process.kill()
            assert time.monotonic() < deadline, "the stage does not end"
        CurveForwarder(self._tracking, run_id, events).forward()
        is_killed = process.exitcode == -signal.SIGKILL
        self.resumes += had_checkpoint
        return is_killed


def finished(spec: StageSpec) -> StageOutcome:
    """Return the outcome of a stage that must have been verified."""
    outcome = Workdir(spec.workdir).outcome()
    assert outcome is not None
    assert outcome.code is ExitCode.VERIFIED, outcome.reason
    return outcome


def _steps(events: Path) -> int:
    return events.read_bytes().count(b'"progress"') if events.is_file() else 0
