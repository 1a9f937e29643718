"""`auterity up` in the background: start it and wait until everything is healthy, ask it to stop, look how it is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil
from rich.table import Table

from auterity_dagster.embedded.announcement import Announcement, read_announcement, require_running
from auterity_dagster.embedded.data_folder import DataFolder, owner
from auterity_dagster.embedded.processes import lives, tail
from auterity_dagster.errors import Conflict, Unavailable

START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 180.0
LOOK_EVERY_S = 0.2


def start(options: Sequence[str], *, data_dir: Path, environment: Mapping[str, str] = os.environ) -> Announcement:
    """Start `auterity up` with these options (`--free-ports`, …) and return when everything is healthy.

    It goes on when we end; `stop` ends it. Raises `Conflict` when one runs over this folder already, `Unavailable`
    with the end of its log (`log/up.log`) when it gave up.
    """
    folder = DataFolder(data_dir.resolve())
    folder.prepare()
    if (pid := owner(folder)) is not None:
        raise Conflict(f"`auterity up` (process {pid}) runs over {folder.root} already: see `auterity status`")
    log = folder.logs / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "auterity_dagster.cli", "up", "--data-dir", str(folder.root), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**environment} | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"},
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        announcement = read_announcement(folder.root)
        if announcement is not None and announcement.pid == process.pid:
            return announcement
        time.sleep(LOOK_EVERY_S)
    process.terminate()
    process.wait(timeout=STOP_TIMEOUT_S)
    raise Unavailable(f"`auterity up` did not come up; {log} ends with:\n{tail(log, lines=15)}")


def stop(data_dir: Path) -> bool:
    """Ask the `up` over this folder to stop and wait until it has; False if none runs."""
    folder = DataFolder(data_dir.resolve())
    pid = owner(folder)
    if pid is None:
        return False
    process = psutil.Process(pid)
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while lives(process):
        if time.monotonic() > deadline:
            raise Unavailable(f"`auterity up` (process {pid}) does not stop; see {folder.logs}")
        time.sleep(LOOK_EVERY_S)
    return True


def status(data_dir: Path) -> Table:
    """One row a part: does it answer now? Raises `Unavailable` when nothing runs, or not everything yet."""
    folder = DataFolder(data_dir.resolve())
    if read_announcement(data_dir) is None and (pid := owner(folder)) is not None:
        raise Unavailable(f"`auterity up` (process {pid}) over {folder.root} is not healthy yet, or is stopping")
    announcement = require_running(data_dir)
    urls = announcement.urls
    health = {
        "gateway": f"{urls.gateway}/healthz",
        "api": f"{urls.api}/healthz",
        "model_server": f"{urls.model_server}/healthz",
        "sandbox": f"{urls.sandbox}/healthz",
        "mlflow": f"{urls.mlflow}/health",
        "dagster": f"{urls.dagster}/server_info",
    }
    table = Table("part", "process", "state", "health check")
    for process in announcement.processes:
        url = health.get(process.name)
        state = "runs" if url is None else "healthy" if _answers(url) else "does not answer"
        table.add_row(process.name, str(process.pid), state, url or "")
    return table


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
