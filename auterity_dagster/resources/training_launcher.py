"""Starts a training stage in a process of its own, watches over it, and acts on the way it ended."""

import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from auterity_dagster.errors import Conflict
from auterity_dagster.neuroweaver.recipe import Recipe
from auterity_dagster.neuroweaver.stage import ExitCode, Stage, StageOutcome, StageSpec
from auterity_dagster.neuroweaver.stage_policy import Attempts, Ended, Then, decide, newest_is_new
from auterity_dagster.resources.pod_settings import PodSettings
from auterity_dagster.resources.training_ledger import MachineTime
from auterity_dagster.resources.training_process import SILENCE_LIMIT_S, adopt, run_process
from auterity_dagster.settings import ModelsSettings
from auterity_dagster.storage.workdir import Workdir

Watch = Callable[[], None]


class StagePaused(dg.Failure):
    """The stage's time is up: its checkpoint is safe, and a person decides whether it goes on."""


class TrainingLauncher(dg.ConfigurableResource):
    """Runs stages as child processes over Dagster Pipes; what was killed goes on from its checkpoint.

    The recipe's `hardware.launcher` decides how: a process, several by accelerate, or a pod. `module` is the program
    that is started; a stage silent for `silence_limit_s` is ended and started again.
    """

    data_dir: str
    pods: PodSettings = PodSettings()
    module: str = "auterity_dagster.training"
    silence_limit_s: float = SILENCE_LIMIT_S

    def workdir(self, stage_key: str) -> Path:
        """Return the folder of a stage; the same key finds the same checkpoints again."""
        return Path(self.data_dir) / "training" / stage_key

    def run(
        self, context: dg.AssetExecutionContext, spec: StageSpec, *, machine: MachineTime, watch: Watch = lambda: None
    ) -> StageOutcome:
        """Run a stage until it is verified; `watch` is called every other second, `machine` counts our processes' time.

        Raises `StagePaused` when its time is up, and `dg.Failure` with the child's own words when it cannot be done.
        """
        attempts = Attempts()
        while True:
            ended = self._once(context, spec.model_copy(update={"halvings": attempts.halvings}), machine, watch)
            decision = decide(ended, attempts, batch=batch_of(spec.recipe, spec.stage))
            attempts = decision.attempts
            match decision.then:
                case Then.FINISH:
                    assert ended.outcome is not None
                    return ended.outcome
                case Then.FAIL:
                    raise dg.Failure(f"{spec.stage}: {decision.reason}", allow_retries=False)
                case Then.PAUSE:
                    raise StagePaused(f"{spec.stage}: {decision.reason}", allow_retries=False)
                case _:
                    context.log.warning(f"{spec.stage}: {decision.reason}")
                    time.sleep(decision.wait_s)

    def _once(self, context: dg.AssetExecutionContext, spec: StageSpec, machine: MachineTime, watch: Watch) -> Ended:
        workdir = Workdir(spec.workdir)
        before = workdir.checkpoint_names()
        try:
            with workdir.locked():
                workdir.forget_outcome()
                path = spec.workdir / "spec.json"
                path.write_text(spec.model_dump_json(by_alias=True))
        except Conflict:
            context.log.info(f"{spec.stage}: another process trains this stage already; its result is waited for")
            adopt(workdir, watch=watch, silence_limit_s=self.silence_limit_s)
            exit_code = None
        else:
            began = time.monotonic()
            try:
                exit_code = self._start(context, spec, path, watch)
            finally:
                machine.seconds += time.monotonic() - began
        watch()
        outcome = None if exit_code == ExitCode.LOCKED else workdir.outcome()
        return Ended(exit_code, outcome, newest_is_new(before, workdir.checkpoint_names()))

    def _start(self, context: dg.AssetExecutionContext, spec: StageSpec, path: Path, watch: Watch) -> int | None:
        if spec.recipe.hardware.launcher != "kubernetes":
            return run_process(
                context, spec, path, module=self.module, watch=watch, silence_limit_s=self.silence_limit_s
            )
        # Imported here: Kubernetes' client takes two seconds, and most installations have no cluster.
        from auterity_dagster.resources.training_pod import StagePods, pod_command

        StagePods().run_stage(
            context,
            spec,
            pod_command(spec, path, module=self.module),
            settings=self.pods,
            data_dir=self.data_dir,
            watch=watch,
            silence_limit_s=self.silence_limit_s,
        )
        return None


def launcher_from(settings: ModelsSettings, *, data_dir: str) -> TrainingLauncher:
    """Return the resource for this process's settings."""
    pods = PodSettings(
        image=settings.training_image,
        namespace=settings.training_namespace,
        volume_claim=settings.training_volume_claim,
    )
    return TrainingLauncher(data_dir=data_dir, pods=pods)


def batch_of(recipe: Recipe, stage: Stage) -> int | None:
    """Return how many rows a stage puts through at once, or None for a stage that does not train."""
    block = {Stage.PLAN: recipe.sft, Stage.SFT: recipe.sft, Stage.DPO: recipe.dpo, Stage.GRPO: recipe.grpo}.get(stage)
    return None if block is None else block.batch
