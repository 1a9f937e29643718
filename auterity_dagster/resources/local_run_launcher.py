"""Dagster's launcher for one machine, which besides knows whether a run's process lives.

Dagster's own notices a death only through the code server that started the process: if that died too, or PostgreSQL was
away at that moment, the run stays `STARTED` and keeps its place for an hour.
"""

import json

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CLOCKS_DIFFER_S = 5.0
"""A process's start is counted in ticks since the machine's; the event's time is the wall clock's."""


class LocalRunLauncher(DefaultRunLauncher):
    """`run_launcher` of `dagster.yaml`; a run whose code server is on another machine is left to that machine."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Look for the process that wrote that it begins the run."""
        started = self._started(run)
        if not _is_here(run) or started is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        pid, at = started
        if _lives(pid, begun_by=at):
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {pid} is gone", run_worker_id=str(pid))

    def _started(self, run: DagsterRun) -> tuple[int, float] | None:
        """Return the process id, and when it was told."""
        events = self._instance.event_log_storage.get_logs_for_run(
            run.run_id, of_type={DagsterEventType.ENGINE_EVENT}, limit=10
        )
        for event in events:
            data = event.get_dagster_event().event_specific_data
            told = data.metadata.get("pid") if isinstance(data, EngineEventData) else None
            if told is not None and str(told.value).isdecimal():
                return int(str(told.value)), event.timestamp
        return None


def _is_here(run: DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return server.get("host") in LOOPBACK


def _lives(pid: int, *, begun_by: float) -> bool:
    """True if the process runs; one that began later was given the same number."""
    try:
        process = psutil.Process(pid)
        is_same = process.create_time() <= begun_by + CLOCKS_DIFFER_S
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
