"""The folder of one stage of training: lock, heartbeat, events, and the outcome, which is written last and by rename.

The process that trains writes it; the one that asked for the stage reads it, as does whoever takes over from either.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from auterity_dagster.errors import Conflict
from auterity_dagster.neuroweaver.stage import StageEvent, StageOutcome

HEARTBEAT_S = 5.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of life: which process on which host, when (Unix time), and how long all attempts took by then."""

    pid: int
    host: str
    at: float
    elapsed_s: float


@dataclass
class Workdir:
    """One stage's files below `path`; `began` is when this process began, on the monotonic clock."""

    path: Path
    began: float = field(default_factory=time.monotonic)
    _before_s: float = 0.0

    @property
    def checkpoints(self) -> Path:
        """Where verified checkpoints lie, named `step-000050`."""
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        """Where the result is put together before it goes to the object store."""
        return self.path / "result"

    @property
    def elapsed_s(self) -> float:
        """Seconds of this process and all attempts before it; what a killed one did after its last beat is lost."""
        return self._before_s + time.monotonic() - self.began

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder's lock and keep its heartbeat fresh; raises `Conflict` when another process holds it."""
        with self.locked():
            earlier = self.heartbeat()
            self._before_s = 0.0 if earlier is None else earlier.elapsed_s
            done = threading.Event()
            beat = threading.Thread(target=self._beat, args=(done,), daemon=True)
            beat.start()
            try:
                yield
            finally:
                done.set()
                beat.join()

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Hold the folder's lock, which ends with the process; raises `Conflict` when another one holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another process trains in {self.path}", code="lock_held") from error
            yield

    def event(
        self,
        kind: str,
        *,
        step: int | None = None,
        steps: int | None = None,
        values: Mapping[str, float] | None = None,
        text: str = "",
    ) -> StageEvent:
        """Add one line to `events.jsonl`."""
        event = StageEvent(kind=kind, at=time.time(), step=step, steps=steps, values=values or {}, text=text)
        with (self.path / "events.jsonl").open("a") as lines:
            lines.write(event.model_dump_json() + "\n")
        return event

    def finish(self, outcome: StageOutcome) -> None:
        """Write `outcome.json` so that a reader sees all of it or nothing."""
        write_durably(self.path / "outcome.json", outcome.model_dump_json(indent=1).encode())

    def forget_outcome(self) -> None:
        """Remove the outcomes of an earlier attempt."""
        for path in self._outcomes():
            path.unlink()

    def outcome(self) -> StageOutcome | None:
        """Return how the last attempt ended, or None when it has not ended or was killed.

        Where one of several processes failed and the first was ended with it, it is the failed one's outcome.
        """
        for path in self._outcomes():
            try:
                return StageOutcome.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue
        return None

    def heartbeat(self) -> Heartbeat | None:
        """Return the last sign of life, or None before the first."""
        try:
            return Heartbeat(**json.loads((self.path / "heartbeat.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def checkpoint_names(self) -> tuple[str, ...]:
        """Return the names of the checkpoints that lie there, verified or not, oldest first."""
        return tuple(sorted(path.name for path in self.checkpoints.glob("step-*")))

    def _outcomes(self) -> list[Path]:
        own = self.path / "outcome.json"
        return [*([own] if own.is_file() else []), *sorted(self.path.glob("rank-*/outcome.json"))]

    def _beat(self, done: threading.Event) -> None:
        is_over = False
        while True:
            beat = {"pid": os.getpid(), "host": socket.gethostname(), "at": time.time(), "elapsed_s": self.elapsed_s}
            write_durably(self.path / "heartbeat.json", json.dumps(beat).encode(), sync=False)
            if is_over:
                return
            # One more beat at the end: the seconds of a short attempt count too.
            is_over = done.wait(HEARTBEAT_S)


def write_durably(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace a file's content by a rename, synced to disk unless it is a mere sign of life."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
