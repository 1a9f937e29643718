"""Telling how a stage goes: to the events file, to standard error, and to Dagster where it started the process."""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from auterity_dagster.storage.workdir import Workdir

REPORT_EVERY_S = 10.0


class Progress:
    """Reports phases, steps and the end of a stage; steps go to Dagster at most every ten seconds.

    Of several processes only the one with `is_told` speaks to people; the others write their own events file only.
    """

    def __init__(self, workdir: Workdir, *, stage: str, is_told: bool = True) -> None:
        self._workdir = workdir
        self._stage = stage
        self._is_told = is_told
        self._pipes: PipesContext | None = None
        self._stack = ExitStack()
        self._told_at = 0.0
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        if self._is_told and PipesEnvVarParamsLoader().is_dagster_pipes_process():
            self._pipes = self._stack.enter_context(open_dagster_pipes())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def started(self, *, resumed_from_step: int | None) -> None:
        """Say that the stage runs, and from which step it goes on."""
        where = "from the start" if resumed_from_step is None else f"from the checkpoint of step {resumed_from_step}"
        self._workdir.event("started", step=resumed_from_step, text=where)
        self._tell(f"{self._stage}: started {where}")

    def phase(self, name: str) -> None:
        """Say what begins now, for the stretches that have no steps."""
        self._workdir.event("phase", text=name)
        self._tell(f"{self._stage}: {name}")

    def step(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Record one step; tell people at intervals, with how long the rest will take."""
        self._workdir.event("progress", step=step, steps=steps, values=values)
        now = time.monotonic()
        self._first = self._first or (step, now)
        if now - self._told_at < REPORT_EVERY_S and step != steps:
            return
        self._told_at = now
        first_step, first_at = self._first
        rate = (now - first_at) / (step - first_step) if step > first_step else None
        left = "" if rate is None else f", about {round(rate * (steps - step))} s left"
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._tell(f"{self._stage}: {step} of {steps}{left}{': ' + shown if shown else ''}")

    def checkpoint(self, step: int) -> None:
        """Say that a verified checkpoint of this step is on disk."""
        self._workdir.event("checkpoint", step=step)
        self._tell(f"{self._stage}: checkpoint of step {step} saved")

    def ended(self, payload: Mapping[str, object]) -> None:
        """Hand the outcome to Dagster; the asset reads `outcome.json`, which is there even if this is lost."""
        if self._pipes is not None:
            self._pipes.report_custom_message({"outcome": dict(payload)})
        self._tell(f"{self._stage}: {payload['reason']}")

    def _tell(self, text: str) -> None:
        if not self._is_told:
            return
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        if self._pipes is not None:
            self._pipes.log.info(text)
