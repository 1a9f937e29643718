"""What a stage's code gets to work with: its specification, its folder, the object store, and how to report."""

from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from transformers import Trainer, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.jsonl import Row, read_lines
from auterity_dagster.neuroweaver.stage import StageSpec
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.training.checkpoint import StageCallback, StopRequest
from auterity_dagster.training.progress import Progress
from auterity_dagster.training.workdir import Workdir


@dataclass(frozen=True)
class StageRun:
    """One run of one stage."""

    spec: StageSpec
    workdir: Workdir
    store: ObjectStore
    progress: Progress
    stop: StopRequest

    def prepare(self) -> None:
        """Set seed and threads as the recipe says; the libraries' progress bars are for terminals."""
        transformers_logging.disable_progress_bar()
        datasets.disable_progress_bars()
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

    def silence(self, trainer: Trainer) -> None:
        """Leave the reporting of steps to our own callback."""
        trainer.remove_callback(PrinterCallback)

    def callback(self) -> StageCallback:
        """Return the trainer's callback of this run."""
        return StageCallback(
            workdir=self.workdir,
            progress=self.progress,
            stage_key=self.spec.stage_key,
            stop=self.stop,
            cap_s=self.spec.cap_s,
        )


@dataclass(frozen=True)
class StageResult:
    """What a stage made: the digest of its bundle or file, figures, and words."""

    digest: str
    reason: str
    metrics: dict[str, float]
    facts: dict[str, str]
    resumed_from_step: int | None = None
