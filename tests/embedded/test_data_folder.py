import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from auterity_dagster.embedded.data_folder import DataFolder, owned, owner, recover, write_record
from auterity_dagster.embedded.processes import MARK, record, session_members, strays
from auterity_dagster.errors import ConfigurationInvalid, Conflict

SUPERVISING = Path(__file__).parent / "supervising.py"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(tmp_path / f"installation-{os.urandom(8).hex()}")
    folder.prepare()
    yield folder
    for process in strays(folder.root.name):
        process.kill()


def started(folder: DataFolder) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(SUPERVISING), str(folder.root)])
    deadline = time.monotonic() + 20
    while not (folder.root / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def recovered(folder: DataFolder) -> list[str]:
    said: list[str] = []
    with owned(folder):
        asyncio.run(recover(folder, announce=lambda _name, text: said.append(text)))
    return said


def test_what_a_killed_up_left_running_is_ended_by_the_next_one(folder: DataFolder) -> None:
    supervisor = started(folder)
    supervisor.kill()
    supervisor.wait()
    assert len(strays(folder.root.name)) == 2  # the server, and its child in a session of its own

    said = recovered(folder)

    assert strays(folder.root.name) == []
    assert said == ["the last `auterity up` here was killed; ending what it left: server"]
    assert not folder.record.exists()


def test_a_living_up_keeps_its_folder(folder: DataFolder) -> None:
    supervisor = started(folder)

    with pytest.raises(Conflict, match=f"process {supervisor.pid}.*auterity down"), owned(folder):
        pass

    assert owner(folder) == supervisor.pid
    supervisor.kill()
    supervisor.wait()
    assert owner(folder) is None


def test_a_process_that_was_given_a_recorded_number_is_left_alone(folder: DataFolder) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    recorded = record("server", other.pid, signal.SIGTERM)
    assert recorded is not None
    write_record(folder, mark=folder.root.name, processes=(recorded,))
    content = json.loads(folder.record.read_text())
    content["processes"][0]["created_at"] -= 3600
    folder.record.write_text(json.dumps(content))

    recovered(folder)

    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_broken_record_is_said_and_not_guessed_at(folder: DataFolder) -> None:
    folder.record.write_text('{"mark": "half')

    with pytest.raises(ConfigurationInvalid, match=r"processes\.json is broken"):
        recovered(folder)


def test_a_folder_that_was_stopped_cleanly_needs_no_recovery(folder: DataFolder) -> None:
    assert recovered(folder) == []


def test_others_may_pass_the_folder_and_see_nothing(folder: DataFolder) -> None:
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o711
    assert stat.S_IMODE(folder.logs.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_said_with_the_option_that_changes_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationInvalid, match="--data-dir"):
        DataFolder(tmp_path / "file" / "var").prepare()


def test_the_checkers_see_a_process_that_is_left() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={MARK: "left"}, start_new_session=True
    )
    try:
        assert [stray.pid for stray in strays("left")] == [process.pid]
        assert session_members(process.pid) == [psutil.Process(process.pid)]
    finally:
        process.kill()
        process.wait()
