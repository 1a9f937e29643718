"""What a stage's code gets to work with: its specification, its folder, the object store, and how to report."""

import resource
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import set_seed
from transformers.utils import logging as transformers_logging

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.jsonl import Row, read_lines
from auterity_dagster.neuroweaver.stage import StageSpec
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.workdir import Workdir
from auterity_dagster.training.checkpoint import Checkpoint, StageCallback, StopRequest, newest_checkpoint
from auterity_dagster.training.progress import Progress
from auterity_dagster.training.workers import Worker


@dataclass(frozen=True)
class StageRun:
    """One run of one stage in one process.

    Of several processes only the first uses the stage's folder; the others have folders of their own inside it, and
    share the trainer's folder and the checkpoints.
    """

    spec: StageSpec
    workdir: Workdir
    store: ObjectStore
    progress: Progress
    stop: StopRequest
    worker: Worker = field(default_factory=Worker)

    def prepare(self) -> None:
        """Set seed and threads as the recipe says; progress bars are for terminals."""
        transformers_logging.disable_progress_bar()
        set_seed(self.spec.recipe.seed)
        torch.set_num_threads(self.spec.recipe.hardware.threads)

    def checkout(self, name: str) -> Path:
        """Return the folder of an input bundle, verified. Raises `Invalid` when the specification names none."""
        return self.store.checkout(self.digest(name))

    def rows(self, name: str, row_type: type[Row]) -> tuple[Row, ...]:
        """Return the rows of an input file, verified."""
        return read_lines(self.store.read_verified(self.digest(name)), row_type)

    def digest(self, name: str) -> str:
        """Return an input's digest."""
        if name not in self.spec.inputs:
            raise Invalid(f"the stage {self.spec.stage} needs the input {name!r}", field=f"inputs.{name}")
        return self.spec.inputs[name]

    @property
    def trainer_folder(self) -> Path:
        """Where the trainer writes what is not sealed yet."""
        return self.spec.workdir / "trainer"

    @property
    def checkpoints(self) -> Path:
        """Where sealed checkpoints lie."""
        return Workdir(self.spec.workdir).checkpoints

    def callback(self) -> StageCallback:
        """Return the trainer's callback of this run."""
        return StageCallback(
            workdir=self.workdir,
            checkpoints=self.checkpoints,
            progress=self.progress,
            spec=self.spec,
            stop=self.stop,
            worker=self.worker,
        )

    def resume_point(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, and say so; what is newer, and what a killed save left, is removed."""
        found = newest_checkpoint(self.checkpoints, stage_key=self.spec.stage_key)
        self.worker.wait_for_all()
        if self.worker.is_first:
            shutil.rmtree(self.trainer_folder, ignore_errors=True)
            for path in self.checkpoints.glob("step-*"):
                if found is None or path.name > found.path.name:
                    shutil.rmtree(path)
        self.progress.started(resumed_from_step=None if found is None else found.step)
        return found


def peak_memory_bytes() -> int:
    """Return the most memory this process had: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Linux counts in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class StageResult:
    """What a stage made: the digest of its bundle or file, figures, and words."""

    digest: str
    reason: str
    metrics: dict[str, float]
    facts: dict[str, str]
    resumed_from_step: int | None = None
