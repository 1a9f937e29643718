"""Checkpoints that are whole or not there: synced, listed in a manifest of digests, renamed into place; two are kept.

The trainer writes `checkpoint-50`; we sync its files, add the manifest and rename it to `step-000050`. Going on takes
the newest folder whose every digest fits, else the one before. Optimiser and random states stay private to training.
"""

import hashlib
import math
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from auterity_dagster.neuroweaver.machine_price import cost_of
from auterity_dagster.neuroweaver.stage import StageSpec
from auterity_dagster.storage.workdir import Workdir, sync_folder, write_durably
from auterity_dagster.training.adapter import NotLearned, check_moved, trained_weights
from auterity_dagster.training.progress import Progress
from auterity_dagster.training.workers import Worker

KEPT = 2
MOVED_WITHIN_STEPS = 20
"""Every trained tensor must have changed by then: a broken adapter is not trained to its end."""

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
    """Training ended early at a verified checkpoint: it was told to (`signal`), or its time was up (`cap`)."""

    def __init__(self, step: int, steps: int, *, by: Literal["signal", "cap"]) -> None:
        super().__init__(f"stopped at step {step} of {steps}, checkpoint safe")
        self.by: Literal["signal", "cap"] = by


class StageCallback(TrainerCallback):
    """Reports steps, seals checkpoints, ends training at one when told or out of time, at once when it is futile."""

    def __init__(
        self,
        *,
        workdir: Workdir,
        checkpoints: Path,
        progress: Progress,
        spec: StageSpec,
        stop: StopRequest,
        worker: Worker,
    ) -> None:
        self._workdir = workdir
        self._checkpoints = checkpoints
        self._progress = progress
        self._spec = spec
        self._stop = stop
        self._worker = worker
        self._stopped_by: Literal["signal", "cap"] | None = None
        self._start: dict[str, torch.Tensor] | None = None

    def check_finished(self, state: TrainerState) -> None:
        """Raise `TrainingStopped` if the trainer returned before its last step."""
        if self._stopped_by is not None:
            raise TrainingStopped(state.global_step, state.max_steps, by=self._stopped_by)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if state.global_step < MOVED_WITHIN_STEPS:
            self._start = trained_weights(model)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        if self._start is not None and state.global_step >= MOVED_WITHIN_STEPS:
            check_moved(self._start, model)
            self._start = None
        is_told = self._worker.any_of_all(self._stop.is_set, device=args.device)
        is_late = self._worker.any_of_all(self._workdir.elapsed_s > self._spec.cap_s, device=args.device)
        if (is_told or is_late) and state.global_step < state.max_steps:
            self._stopped_by = "cap" if is_late else "signal"
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
        values = {name: float(value) for name, value in (logs or {}).items() if name in TOLD}
        broken = [name for name in ("loss", "grad_norm") if not math.isfinite(values.get(name, 0.0))]
        if broken:
            raise NotLearned(f"{broken[0]} is not a finite number at step {state.global_step}")
        if values:
            cost_nusd = cost_of(self._workdir.elapsed_s, nusd_per_hour=self._spec.nusd_per_hour)
            self._progress.step(state.global_step, state.max_steps, values | {"cost_nusd": float(cost_nusd)})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._worker.wait_for_all()
        if self._worker.is_first:
            written = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            seal(written, self._checkpoints, stage_key=self._spec.stage_key, step=state.global_step)
            self._progress.checkpoint(state.global_step)
        self._worker.wait_for_all()


TOLD = (
    *("loss", "grad_norm", "learning_rate", "mean_token_accuracy"),
    *("rewards/margins", "rewards/accuracies"),
    *("reward", "rewards/held_out/mean", "kl", "frac_reward_zero_std", "completions/clipped_ratio"),
)


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
