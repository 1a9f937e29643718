"""One training process on this machine: started over Dagster Pipes, watched, ended when it is silent."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from auterity_dagster.errors import Conflict
from auterity_dagster.neuroweaver.recipe import Hardware
from auterity_dagster.neuroweaver.stage import SHARED_STAGES, StageSpec
from auterity_dagster.storage.workdir import Workdir

SILENCE_LIMIT_S = 120.0
STOP_PATIENCE_S = 90.0
POLL_S = 2.0

Watch = Callable[[], None]


def command_of(spec: StageSpec, path: Path, *, module: str) -> list[str]:
    """Return the command line of a stage, started by the recipe's launcher."""
    stage = ["-m", module, spec.stage.value, "--spec", str(path)]
    hardware = spec.recipe.hardware
    is_shared = spec.stage in SHARED_STAGES and (hardware.launcher == "accelerate" or hardware.processes > 1)
    return [sys.executable, *(_accelerate(hardware) if is_shared else []), *stage]


def run_process(
    context: dg.AssetExecutionContext,
    spec: StageSpec,
    path: Path,
    *,
    module: str,
    watch: Watch,
    silence_limit_s: float,
) -> int:
    """Run the process to its end and return its exit code (negative: the signal that ended it).

    When this run of Dagster is interrupted, the child is told to stop and has time to save a checkpoint.
    """
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesEnvContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),
    ) as session:
        environment = {**os.environ, **session.get_bootstrap_env_vars()}
        child = subprocess.Popen(command_of(spec, path, module=module), env=environment)
        try:
            return _wait(child, Workdir(spec.workdir), watch=watch, silence_limit_s=silence_limit_s)
        except BaseException:
            _end(child)
            raise


def adopt(workdir: Workdir, *, watch: Watch, silence_limit_s: float) -> None:
    """Wait until the process that holds the folder's lock is done; one of this host that is silent is ended."""
    since = time.time()
    while True:
        try:
            with workdir.locked():
                return
        except Conflict:
            watch()
        beat = workdir.heartbeat()
        if is_silent(workdir, since=since, now=time.time(), limit_s=silence_limit_s):
            if beat is None or beat.host != socket.gethostname():
                raise dg.Failure(f"{workdir.path} is locked by a silent process that is not of this host") from None
            os.kill(beat.pid, signal.SIGKILL)
        time.sleep(POLL_S)


def is_silent(workdir: Workdir, *, since: float, now: float, limit_s: float) -> bool:
    """True if the last sign of life, or else the start at `since`, is longer ago than allowed (Unix times)."""
    beat = workdir.heartbeat()
    return now - max(since, 0.0 if beat is None else beat.at) > limit_s


def _accelerate(hardware: Hardware) -> list[str]:
    # Precision is the recipe's, set by the trainer. With `--cpu` accelerate wants MPI for several processes; what
    # `--multi_gpu` starts is torch's own launcher, and the trainer chooses the device and how the processes talk.
    several = ["--multi_gpu"] if hardware.processes > 1 else []
    options = ["--num_processes", str(hardware.processes), "--num_machines", "1", "--mixed_precision", "no"]
    return ["-m", "accelerate.commands.launch", *several, *options, "--dynamo_backend", "no"]


def _wait(child: subprocess.Popen[bytes], workdir: Workdir, *, watch: Watch, silence_limit_s: float) -> int:
    since = time.time()
    while True:
        try:
            return child.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            watch()
            if is_silent(workdir, since=since, now=time.time(), limit_s=silence_limit_s):
                child.kill()
                return child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
