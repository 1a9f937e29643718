"""An execution as a pure state machine: `apply` says what an event makes of it, `next_actions` what may be done now."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from auterity_dagster.automatrix.workflow import WorkflowDefinition
from auterity_dagster.errors import Conflict


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


@dataclass(frozen=True, slots=True)
class StepError:
    """Why a step failed; `code` is one of the kind's own errors, the message is for a person."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StepState:
    """One step; every step exists from the start. `starts` counts the workers that began the current attempt."""

    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    starts: int = 0
    output: Mapping[str, object] = field(default_factory=dict[str, object])
    error: StepError | None = None
    retry_at: datetime | None = None
    expires_at: datetime | None = None
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """One execution: its status and every step's."""

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
    """The step waits for a person, at the latest until it expires."""

    path: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StepAnswered:
    """What a step waits for came."""

    path: str


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
    """Every step is over."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The execution ends without its goal."""

    error: StepError


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person stops the execution; one that a worker holds ends before its next action."""


StepEvent = StepStarted | StepSucceeded | StepFailed | StepRetryScheduled | StepSkipped | StepParked | StepAnswered
ExecutionEvent = Claimed | Parked | Released | Finished | Failed | CancelRequested | StepEvent


@dataclass(frozen=True, slots=True)
class RunStep:
    """Begin or resume this step."""

    path: str


@dataclass(frozen=True, slots=True)
class EndTurn:
    """Nothing to run: record this and let go."""

    event: Parked | Released | Finished | Failed | CancelRequested


Action = RunStep | EndTurn


def begin(definition: WorkflowDefinition, *, deadline_at: datetime) -> ExecutionState:
    """Return a queued execution with every step pending."""
    return ExecutionState(Status.QUEUED, {step.id: StepState() for step in definition.steps}, deadline_at)


def apply(state: ExecutionState, event: ExecutionEvent) -> ExecutionState:
    """Return the state after an event. Raises `Conflict` if the event cannot happen now: final states never change."""
    if state.status in FINAL:
        raise Conflict(f"the execution has {state.status}, {type(event).__name__} comes too late")
    match event:
        case Claimed():
            return replace(state, status=Status.RUNNING)
        case CancelRequested() if state.status is Status.RUNNING and not state.is_cancel_requested:
            return replace(state, is_cancel_requested=True)
        case CancelRequested():
            return replace(state, status=Status.CANCELLED, is_cancel_requested=True, steps=_closed(state.steps))
        case StepAnswered() if state.status is Status.WAITING:
            return replace(_with_step(state, event), status=Status.QUEUED)
        case StepAnswered():
            return _with_step(state, event)
        case _ if state.status is not Status.RUNNING:
            raise Conflict(f"{type(event).__name__} needs a running execution, it is {state.status}")
        case Parked():
            return replace(state, status=Status.WAITING)
        case Released():
            return replace(state, status=Status.QUEUED)
        case Finished():
            return replace(state, status=Status.SUCCEEDED, steps=_closed(state.steps))
        case Failed():
            return replace(state, status=Status.FAILED, error=event.error, steps=_closed(state.steps))
        case _:
            return _with_step(state, event)


def next_actions(definition: WorkflowDefinition, state: ExecutionState, now: datetime) -> tuple[Action, ...]:
    """Return what a worker that holds the execution may do now; a final one gives nothing.

    A step found `running` belonged to a worker that died: the same attempt begins again, so that a gateway that saw
    its idempotency key gives the first answer.
    """
    if state.status in FINAL:
        return ()
    if state.is_cancel_requested:
        return (EndTurn(CancelRequested()),)
    if now >= state.deadline_at:
        return (EndTurn(Failed(StepError("timeout", "the execution's time ran out"))),)
    for step in definition.steps:
        found = state.steps[step.id]
        if found.status is StepStatus.FAILED and step.on_error == "fail":
            error = found.error or StepError("failed", "no reason was recorded")
            return (EndTurn(Failed(StepError(error.code, f"step {step.id}: {error.message}"))),)
        if found.status is StepStatus.SUCCEEDED and found.output.get("stop") is True:
            return (EndTurn(Finished()),)
    ready = tuple(RunStep(path) for path in _ready(definition, state, now))
    return ready or (EndTurn(_end_of_turn(state)),)


def is_last_start(step: StepState) -> bool:
    """True if three workers died in this attempt: it kills whoever tries it."""
    return step.status is StepStatus.RUNNING and step.starts >= LOST_WORKERS_LIMIT


def _ready(definition: WorkflowDefinition, state: ExecutionState, now: datetime) -> list[str]:
    ready: list[str] = []
    for index, step in enumerate(definition.steps):
        found = state.steps[step.id]
        if found.status is StepStatus.PENDING:
            is_due = found.retry_at is None or found.retry_at <= now
            if is_due and all(state.steps[need].status in OVER for need in definition.needs_of(index)):
                ready.append(step.id)
        elif found.status is StepStatus.RUNNING:
            ready.append(step.id)
        elif found.status is StepStatus.WAITING:
            is_over = found.expires_at is not None and found.expires_at <= now
            if found.is_answered or is_over:
                ready.append(step.id)
    return ready


def _end_of_turn(state: ExecutionState) -> Parked | Released | Finished | Failed:
    steps = state.steps.values()
    expiries = [step.expires_at for step in steps if step.status is StepStatus.WAITING and step.expires_at is not None]
    retries = [step.retry_at for step in steps if step.status is StepStatus.PENDING and step.retry_at is not None]
    if retries:
        return Released(min(*retries, *expiries, state.deadline_at))
    if expiries:
        return Parked(min(*expiries, state.deadline_at))
    if all(step.status in OVER for step in steps):
        return Finished()
    return Failed(StepError("engine_stuck", "nothing is ready, nothing waits, and the workflow is not over"))


def _with_step(state: ExecutionState, event: ExecutionEvent) -> ExecutionState:
    assert isinstance(event, StepEvent)
    step = state.steps[event.path]
    if step.status in OVER:
        raise Conflict(f"step {event.path} is {step.status}, {type(event).__name__} comes too late")
    return replace(state, steps={**state.steps, event.path: _moved(step, event)})


def _moved(step: StepState, event: StepEvent) -> StepState:
    match event:
        case StepStarted():
            is_again = event.attempt == step.attempt and step.status is StepStatus.RUNNING
            starts = step.starts + 1 if is_again else 1
            return replace(step, status=StepStatus.RUNNING, attempt=event.attempt, starts=starts, retry_at=None)
        case StepSkipped() if step.status is StepStatus.PENDING:
            return replace(step, status=StepStatus.SKIPPED)
        case StepAnswered() if step.status is StepStatus.WAITING:
            return replace(step, is_answered=True)
        case StepSucceeded() if step.status in (StepStatus.RUNNING, StepStatus.WAITING):
            return replace(step, status=StepStatus.SUCCEEDED, output=event.output)
        case StepFailed() if step.status in (StepStatus.RUNNING, StepStatus.WAITING):
            return replace(step, status=StepStatus.FAILED, error=event.error)
        case StepRetryScheduled() if step.status is StepStatus.RUNNING:
            return replace(step, status=StepStatus.PENDING, error=event.error, retry_at=event.retry_at)
        case StepParked() if step.status is StepStatus.RUNNING:
            return replace(step, status=StepStatus.WAITING, expires_at=event.expires_at)
        case _:
            raise Conflict(f"step {event.path} is {step.status}, {type(event).__name__} cannot happen")


def _closed(steps: Mapping[str, StepState]) -> Mapping[str, StepState]:
    return {
        path: step if step.status in OVER else replace(step, status=StepStatus.CANCELLED)
        for path, step in steps.items()
    }
