"""What a step's action is given, and what it may answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from auterity_dagster.automatrix.compiled_workflow import CompiledStep
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.ports import (
    Arrival,
    Decision,
    Effect,
    EffectRecord,
    EffectResolved,
    Entry,
    Snapshot,
    TaskAssigned,
)


@dataclass(frozen=True, slots=True)
class StepContext:
    """One attempt at one step of one execution; `decision` or `arrival` is what it waited for, if that came."""

    snapshot: Snapshot
    path: str
    compiled: CompiledStep
    attempt: int
    scope: Mapping[str, object]
    idempotency_key: str | None
    now: datetime
    decision: Decision | None
    arrival: Arrival | None

    @property
    def expires_at(self) -> datetime | None:
        """Until when a step that was parked waits, None for one that begins."""
        return self.snapshot.state.steps[self.path].expires_at

    @property
    def is_expired(self) -> bool:
        """True for a step that was parked and whose time is over."""
        return self.expires_at is not None and self.expires_at <= self.now

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
    """The step waits for somebody or something; it is performed again when that came, or the time is over."""

    expires_at: datetime | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class NotDone:
    """The attempt failed; whether it is tried again is the step's retry policy's business."""

    error: StepError
    retry_after_s: float | None = None
    entries: tuple[EffectResolved | TaskAssigned, ...] = ()


@dataclass(frozen=True, slots=True)
class Later:
    """The step may not act before `until`; that is no failure and uses up no attempt."""

    until: datetime
    error: StepError


Outcome = Done | Wait | NotDone | Later


class StepAction(Protocol):
    """One kind of step. `inputs` are already validated against the kind's model."""

    def effect(self, context: StepContext, inputs: Any) -> Effect | None:
        """Return what it will do outside, at most once for its key; None if nothing."""
        ...

    def perform(self, context: StepContext, inputs: Any, record: EffectRecord | None) -> Outcome:
        """Do it, outside any transaction."""
        ...
