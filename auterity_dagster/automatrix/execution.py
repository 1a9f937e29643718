"""What an execution is at one moment, and what can happen to it: plain data, moved by `transition.apply`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from auterity_dagster.automatrix.workflow import WorkflowDefinition


class Status(StrEnum):
    """Where an execution stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where one step stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
OVER = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})
LOST_WORKERS_LIMIT = 3
ATTEMPTS_LIMIT = 20
"""Attempts at one path."""

EXECUTION_ATTEMPTS_LIMIT = 2_000
"""Attempts of one execution, over all its paths."""


@dataclass(frozen=True, slots=True)
class StepError:
    """Why a step failed; `code` is one of the kind's own errors, the message is for a person."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StepState:
    """One step; every step exists from the start. `starts` counts the workers that began the current attempt.

    `items` is what a `for_each` goes over, None until that is known; from then on it waits for its items' steps.
    """

    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    starts: int = 0
    output: Mapping[str, object] = field(default_factory=dict[str, object])
    error: StepError | None = None
    retry_at: datetime | None = None
    expires_at: datetime | None = None
    is_answered: bool = False
    items: tuple[object, ...] | None = None

    @property
    def is_begun(self) -> bool:
        """True once a worker has done anything about it."""
        return self.status is not StepStatus.PENDING or self.attempt > 0


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """One execution: its status and every step's, those of a `for_each`'s items by their paths.

    An open one with an `error` is about to fail: only the steps of `on_failure` are left to do.
    """

    status: Status
    steps: Mapping[str, StepState]
    deadline_at: datetime
    is_cancel_requested: bool = False
    error: StepError | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker holds the execution now."""


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A worker begins an attempt, or begins one again that a dead worker left."""

    path: str
    attempt: int
    input_digest: str | None = None


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """The attempt gave its output."""

    path: str
    output: Mapping[str, object]
    deployment: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_nusd: int | None = None


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step will not be tried again."""

    path: str
    error: StepError


@dataclass(frozen=True, slots=True)
class StepRetryScheduled:
    """The attempt failed; the next one begins at `retry_at`."""

    path: str
    error: StepError
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """`when` was false: the step satisfies what needs it, and arms no wait."""

    path: str


@dataclass(frozen=True, slots=True)
class StepParked:
    """The step waits for somebody or something; `expires_at` None means as long as the execution may take."""

    path: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepAnswered:
    """What a step waits for came."""

    path: str


@dataclass(frozen=True, slots=True)
class StepExpanded:
    """A `for_each` knows its items: the steps of each, named in `body`, exist from now on."""

    path: str
    items: tuple[object, ...]
    body: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopEnded:
    """`while` was false before item `count`: that one and those after it are not begun."""

    path: str
    count: int


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing can move until somebody answers, or the earliest wait expires."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Released:
    """The worker lets go; somebody goes on at `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Finished:
    """Every step is over; `outputs` are what the execution gives to whoever called it."""

    outputs: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Failed:
    """The execution ends without its goal."""

    error: StepError


@dataclass(frozen=True, slots=True)
class FailureBegan:
    """The execution will fail: what was under way ends, and the steps of `on_failure` come first."""

    error: StepError
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person stops the execution; one that a worker holds ends before its next action."""


StepEvent = (
    StepStarted
    | StepSucceeded
    | StepFailed
    | StepRetryScheduled
    | StepSkipped
    | StepParked
    | StepAnswered
    | StepExpanded
    | LoopEnded
)
ExecutionEvent = Claimed | Parked | Released | Finished | Failed | FailureBegan | CancelRequested | StepEvent


def begin(definition: WorkflowDefinition, *, deadline_at: datetime) -> ExecutionState:
    """Return a queued execution with every step pending."""
    return ExecutionState(Status.QUEUED, {step.id: StepState() for step in definition.steps}, deadline_at)
