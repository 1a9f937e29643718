"""The data folder of one installation: who owns it now, what is written there, and what a killed `up` left behind."""

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from auterity_dagster.embedded.processes import end, find, gone, session_members, strays
from auterity_dagster.embedded.supervised_service import ServiceProcess
from auterity_dagster.errors import ConfigurationInvalid, Conflict

PRIVATE = ("log", "run", "dagster", "mlflow", "objects")
STOP_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths under AUTERITY_DATA_DIR."""

    root: Path

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "log"

    @property
    def announcement(self) -> Path:
        """What runs and where; there from all-healthy to the stop."""
        return self.root / "up.json"

    @property
    def lock(self) -> Path:
        """Locked by the living `up` that owns the folder; holds its process id."""
        return self.root / "run" / "up.lock"

    @property
    def record(self) -> Path:
        """The processes that run now, for the next `up` should this one be killed."""
        return self.root / "run" / "processes.json"

    def prepare(self) -> None:
        """Make the folders; others may pass through the root (the database's user must), and see nothing."""
        try:
            if not self.root.exists():
                self.root.mkdir(parents=True)
                self.root.chmod(0o711)
            for name in PRIVATE:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationInvalid(
                f"the data folder {self.root} cannot be made: {error.strerror}; choose another with --data-dir"
            ) from error


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    mark: str
    processes: tuple[ServiceProcess, ...]


@contextmanager
def owned(folder: DataFolder) -> Iterator[None]:
    """Own the folder until the end of the block; the system lets go of it when we are killed.

    Raises `Conflict` when another living `up` owns it.
    """
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"another `auterity up` (process {owner(folder)}) uses {folder.root}: stop it with `auterity down`, "
                "or choose another folder with --data-dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def owner(folder: DataFolder) -> int | None:
    """The process id of the living `up` that owns the folder, if there is one."""
    try:
        descriptor = os.open(folder.lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.pread(descriptor, 20, 0).decode()
        return int(written) if written.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def write_record(folder: DataFolder, *, mark: str, processes: tuple[ServiceProcess, ...]) -> None:
    """Note what runs, complete or not at all."""
    write_whole(folder.record, json.dumps({"mark": mark, "processes": [asdict(process) for process in processes]}))


def write_whole(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old or the new content, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.chmod(0o600)
    partial.replace(path)


async def recover(folder: DataFolder, *, announce: Callable[[str, str], None]) -> None:
    """End what a killed `up` left running: servers first, the database last. The caller owns the folder."""
    folder.announcement.unlink(missing_ok=True)
    if not folder.record.exists():
        return
    try:
        left = _Record.model_validate_json(folder.record.read_text())
    except ValidationError as error:
        raise ConfigurationInvalid(
            f"{folder.record} is broken, so processes of an earlier `auterity up` may still run: "
            "end them, remove the file, and start again"
        ) from error
    living = [(recorded, process) for recorded in left.processes if (process := find(recorded)) is not None]
    marked = strays(left.mark)
    if living or marked:
        names = ", ".join(recorded.name for recorded, _ in living) or "run workers"
        announce("auterity", f"the last `auterity up` here was killed; ending what it left: {names}")
    polite = [process for recorded, process in living if recorded.stop_signal == signal.SIGTERM]
    members = [member for process in polite for member in session_members(process.pid)]
    await end({process.pid: process for process in (*polite, *members, *marked)}.values())
    for recorded, process in living:
        if process.is_running() and recorded.stop_signal != signal.SIGTERM:
            process.send_signal(recorded.stop_signal)
            if not await gone([process], within_s=STOP_GRACE_S):
                await end([process])
    folder.record.unlink()
