"""The folder of one stage: lock, heartbeat, events, and the outcome, which is written last and by rename."""

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from auterity_dagster.errors import Conflict
from auterity_dagster.neuroweaver.stage import StageEvent, StageOutcome

HEARTBEAT_S = 5.0


@dataclass
class Workdir:
    """One stage's files below `path`."""

    path: Path
    _started: float = field(default_factory=time.monotonic)

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
        """Seconds since this process opened the folder."""
        return time.monotonic() - self._started

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder's lock and keep its heartbeat fresh; raises `Conflict` when another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another process trains in {self.path}", code="lock_held") from error
            done = threading.Event()
            beat = threading.Thread(target=self._beat, args=(done,), daemon=True)
            beat.start()
            try:
                yield
            finally:
                done.set()
                beat.join()

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

    def _beat(self, done: threading.Event) -> None:
        while True:
            beat = {"pid": os.getpid(), "at": time.time(), "elapsed_s": round(self.elapsed_s, 1)}
            write_durably(self.path / "heartbeat.json", json.dumps(beat).encode(), sync=False)
            if done.wait(HEARTBEAT_S):
                return


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
