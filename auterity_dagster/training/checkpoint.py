"""Checkpoints that are whole or not there: synced, listed in a manifest of digests, renamed into place; two are kept.

The trainer writes `checkpoint-50`; we sync its files, add the manifest and rename it to `step-000050`. Going on takes
the newest folder whose every digest fits, else the one before. Optimiser and random states stay private to training.
"""

import hashlib
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from auterity_dagster.training.progress import Progress
from auterity_dagster.training.workdir import Workdir, sync_folder, write_durably

KEPT = 2
_MANIFEST = "manifest.json"


class CheckpointManifest(BaseModel):
    """What a checkpoint holds and which stage it belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    stage_key: str
    step: int
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    step: int


def newest_checkpoint(folder: Path, *, stage_key: str) -> Checkpoint | None:
    """Return the newest checkpoint of this stage whose files all have their digests; damaged ones are passed over."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        manifest = _read_manifest(path)
        if manifest is not None and manifest.stage_key == stage_key and _digests(path) == dict(manifest.files):
            return Checkpoint(path=path, step=manifest.step)
    return None


def seal(checkpoint: Path, folder: Path, *, stage_key: str, step: int) -> Path:
    """Sync a written checkpoint, add its manifest, rename it to its place, and drop all but the last two."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            _sync_file(path)
    manifest = CheckpointManifest(stage_key=stage_key, step=step, files=_digests(checkpoint))
    write_durably(checkpoint / _MANIFEST, manifest.model_dump_json().encode())
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:06d}"
    if target.exists():
        shutil.rmtree(target)
    checkpoint.rename(target)
    sync_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return target


class StopRequest:
    """Remembers that the process was asked to stop (SIGTERM, SIGINT), so that training ends at a checkpoint."""

    def __init__(self) -> None:
        self.is_set = False

    def listen(self) -> None:
        """Take the two signals over."""
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.is_set = True


class TrainingStopped(Exception):
    """Training ended early at a verified checkpoint, because it was asked to or its time was up."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped at step {step} of {steps}, checkpoint safe")
        self.step = step
        self.steps = steps


class StageCallback(TrainerCallback):
    """Reports steps, seals checkpoints, and ends training at a checkpoint when asked or when the cap is reached."""

    def __init__(self, *, workdir: Workdir, progress: Progress, stage_key: str, stop: StopRequest, cap_s: int) -> None:
        self._workdir = workdir
        self._progress = progress
        self._stage_key = stage_key
        self._stop = stop
        self._cap_s = cap_s
        self.is_stopped = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if (self._stop.is_set or self._workdir.elapsed_s > self._cap_s) and state.global_step < state.max_steps:
            self.is_stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if name in _TOLD}
        if values:
            self._progress.step(state.global_step, state.max_steps, values)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        written = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        seal(written, self._workdir.checkpoints, stage_key=self._stage_key, step=state.global_step)
        self._progress.checkpoint(state.global_step)


_TOLD = ("loss", "grad_norm", "learning_rate", "rewards/margins", "rewards/accuracies", "mean_token_accuracy")


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _MANIFEST
    }


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _read_manifest(folder: Path) -> CheckpointManifest | None:
    try:
        return CheckpointManifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
