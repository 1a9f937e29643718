"""Starts a training stage in a process of its own, watches its heartbeat, and reads how it ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
from pydantic import ValidationError

from auterity_dagster.neuroweaver.stage import ExitCode, StageOutcome, StageSpec

ATTEMPTS = 3
SILENCE_LIMIT_S = 120.0
STOP_PATIENCE_S = 90.0
_POLL_S = 2.0


class TrainingLauncher(dg.ConfigurableResource):
    """Runs stages as child processes over Dagster Pipes; a child that was killed goes on from its checkpoint."""

    data_dir: str

    def workdir(self, stage_key: str) -> Path:
        """Return the folder of a stage; the same key finds the same checkpoints again."""
        return Path(self.data_dir) / "training" / stage_key

    def run(self, context: dg.AssetExecutionContext, spec: StageSpec) -> StageOutcome:
        """Run a stage until it is verified. Raises `dg.Failure` with the child's own words when it cannot be."""
        for attempt in range(1, ATTEMPTS + 1):
            exit_code = self._launch(context, spec)
            outcome = _read_outcome(spec.workdir)
            if outcome is not None and outcome.code is ExitCode.VERIFIED:
                return outcome
            if outcome is not None:
                raise dg.Failure(f"{spec.stage}: {outcome.reason} (exit code {outcome.code})", allow_retries=False)
            if exit_code == ExitCode.LOCKED:
                raise dg.Failure(f"{spec.stage}: another process trains in {spec.workdir}", allow_retries=False)
            if exit_code == ExitCode.SPEC_INVALID:
                raise dg.Failure(f"{spec.stage}: the specification was refused", allow_retries=False)
            context.log.warning(f"{spec.stage} ended with {exit_code} and no outcome (attempt {attempt} of {ATTEMPTS})")
        raise dg.Failure(f"{spec.stage} ended {ATTEMPTS} times without an outcome: see the run's stderr")

    def _launch(self, context: dg.AssetExecutionContext, spec: StageSpec) -> int:
        spec.workdir.mkdir(parents=True, exist_ok=True)
        for name in ("outcome.json", "heartbeat.json"):
            (spec.workdir / name).unlink(missing_ok=True)
        path = spec.workdir / "spec.json"
        path.write_text(spec.model_dump_json(by_alias=True))
        command = [sys.executable, "-m", "auterity_dagster.training", spec.stage.value, "--spec", str(path)]
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesEnvContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            child = subprocess.Popen(command, env={**os.environ, **session.get_bootstrap_env_vars()})
            try:
                return _wait(child, spec.workdir)
            except BaseException:
                # Dagster ends a run by an interrupt: the child gets the time to save a checkpoint.
                _end(child)
                raise


def _wait(child: subprocess.Popen[bytes], workdir: Path) -> int:
    started = time.time()
    while True:
        try:
            return child.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            if time.time() - _last_beat(workdir, default=started) > SILENCE_LIMIT_S:
                child.kill()
                return child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _last_beat(workdir: Path, *, default: float) -> float:
    try:
        return float(json.loads((workdir / "heartbeat.json").read_text())["at"])
    except (OSError, ValueError, KeyError):
        return default


def _read_outcome(workdir: Path) -> StageOutcome | None:
    try:
        return StageOutcome.model_validate_json((workdir / "outcome.json").read_bytes())
    except (OSError, ValidationError):
        return None
