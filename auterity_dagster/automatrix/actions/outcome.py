"""What a step's action is given, and what it may answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.ports import (
    Decision,
    Effect,
    EffectRecord,
    EffectResolved,
    Entry,
    Snapshot,
    TaskAssigned,
)
from auterity_dagster.automatrix.publication import CompiledStep


@dataclass(frozen=True, slots=True)
class StepContext:
    """One attempt at one step of one execution."""

    snapshot: Snapshot
    compiled: CompiledStep
    attempt: int
    scope: Mapping[str, object]
    idempotency_key: str | None
    now: datetime
    decision: Decision | None

    @property
    def path(self) -> str:
        """The step's id."""
        return self.compiled.step.id

    @property
    def timeout_s(self) -> float:
        """How long a call to the outside may take."""
        return self.compiled.step.timeout.total_seconds()


@dataclass(frozen=True, slots=True)
class Done:
    """The step succeeded; `entries` are committed with it."""

    result: StepSucceeded
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """The step waits for a person."""

    expires_at: datetime
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class NotDone:
    """The attempt failed; whether it is tried again is the step's retry policy's business."""

    error: StepError
    retry_after_s: float | None = None
    entries: tuple[EffectResolved | TaskAssigned, ...] = ()


Outcome = Done | Wait | NotDone


class StepAction(Protocol):
    """One kind of step. `inputs` are already validated against the kind's model."""

    def effect(self, context: StepContext, inputs: Any) -> Effect | None:
        """Return what it will do outside, at most once for its key; None if nothing."""
        ...

    def perform(self, context: StepContext, inputs: Any, record: EffectRecord | None) -> Outcome:
        """Do it, outside any transaction."""
        ...
