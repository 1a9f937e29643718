"""A run whose process is gone is known to be dead, whoever started it; others are left alone."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from auterity_dagster.resources.local_run_launcher import LocalRunLauncher


@dg.job
def nothing() -> None:
    """No op."""


def health(pid: int | None, host: str = "127.0.0.1") -> WorkerStatus:
    launcher = LocalRunLauncher()
    with dg.DagsterInstance.ephemeral() as instance:
        launcher.register_instance(instance)
        tags = {GRPC_INFO_TAG: json.dumps({"host": host, "port": 1})}
        run = instance.create_run_for_job(nothing, tags=tags, status=dg.DagsterRunStatus.STARTED)
        instance.report_engine_event("a message without a process", run)
        if pid is not None:
            instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))
        return launcher.check_run_worker_health(run).status


@pytest.fixture(scope="module")
def dead() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    return ended.pid


def test_a_process_that_runs_lives() -> None:
    assert health(os.getpid()) is WorkerStatus.RUNNING


def test_a_process_that_is_gone_is_found_dead(dead: int) -> None:
    assert health(dead) is WorkerStatus.NOT_FOUND


def test_a_process_that_was_killed_and_not_collected_yet_is_dead() -> None:
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)

    assert health(killed.pid) is WorkerStatus.NOT_FOUND
    killed.wait(60)


def test_nothing_is_said_of_a_run_elsewhere_or_without_a_process(dead: int) -> None:
    assert health(dead, host="code-server.internal") is WorkerStatus.RUNNING
    assert health(None) is WorkerStatus.RUNNING
