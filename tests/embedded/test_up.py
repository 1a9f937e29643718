"""The whole of `auterity up`, twice: it takes one to two minutes on two cores."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from auterity_dagster.embedded import background
from auterity_dagster.embedded.announcement import Announcement, read_announcement
from auterity_dagster.embedded.data_folder import DataFolder, owner
from auterity_dagster.embedded.processes import MARK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PARTS = {"postgres", "valkey", "gateway", "api", "model_server", "sandbox", "mlflow", "workflows", "models", "dagster"}


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that others may pass, as after `git clone`; whatever still runs over it is stopped at the end."""
    for name in [name for name in os.environ if name.startswith("AUTERITY_")]:
        monkeypatch.delenv(name)
    project = Path(tempfile.mkdtemp(prefix="auterity-up-"))
    project.chmod(0o711)
    yield project / "var"
    background.stop(project / "var")
    shutil.rmtree(project)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def over(data_dir: Path) -> list[psutil.Process]:
    """Every living process that works on this data folder, by its command line or its environment."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if process.status() != psutil.STATUS_ZOMBIE and (
                any(str(data_dir) in part for part in process.cmdline())
                or (MARK in environment and environment.get("AUTERITY_DATA_DIR") == str(data_dir))
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def process_of(announcement: Announcement, name: str) -> int:
    return next(process.pid for process in announcement.processes if process.name == name)


def test_everything_starts_survives_a_killed_part_and_a_killed_supervisor_and_leaves_nothing(data_dir: Path) -> None:
    first = background.start(["--free-ports"], data_dir=data_dir)

    assert {process.name for process in first.processes} >= PARTS
    for url in (first.urls.gateway, first.urls.api, first.urls.model_server, first.urls.sandbox):
        assert httpx.get(f"{url}/healthz").status_code == httpx.codes.OK

    killed = process_of(first, "sandbox")
    os.kill(killed, signal.SIGKILL)

    def is_replaced() -> bool:
        now = read_announcement(data_dir)
        return now is not None and any(one.name == "sandbox" and one.pid != killed for one in now.processes)

    until(is_replaced)

    os.kill(first.pid, signal.SIGKILL)
    until(lambda: owner(DataFolder(data_dir)) is None)
    assert over(data_dir) != []

    second = background.start(["--free-ports"], data_dir=data_dir)
    assert second.pid != first.pid
    assert "the last `auterity up` here was killed" in (data_dir / "log" / "up.log").read_text()

    assert background.stop(data_dir)
    assert over(data_dir) == []
    assert read_announcement(data_dir) is None
