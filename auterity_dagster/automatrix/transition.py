"""What an event makes of an execution: pure, and final states never change."""

from collections.abc import Mapping
from dataclasses import replace

from auterity_dagster.automatrix.execution import (
    FINAL,
    OVER,
    CancelRequested,
    Claimed,
    ExecutionEvent,
    ExecutionState,
    Failed,
    FailureBegan,
    Finished,
    LoopEnded,
    Parked,
    Released,
    Status,
    StepAnswered,
    StepEvent,
    StepExpanded,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepState,
    StepStatus,
    StepSucceeded,
)
from auterity_dagster.automatrix.step_path import item_path, read_path
from auterity_dagster.errors import Conflict

Steps = Mapping[str, StepState]


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
            return replace(state, status=Status.CANCELLED, is_cancel_requested=True, steps=closed(state.steps))
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
            return replace(state, status=Status.SUCCEEDED, steps=closed(state.steps))
        case FailureBegan() if state.error is None:
            steps = {**closed(state.steps), **{path: StepState() for path in event.steps}}
            return replace(state, error=event.error, steps=steps)
        case FailureBegan():
            raise Conflict("the execution is failing already")
        case Failed():
            return replace(state, status=Status.FAILED, error=event.error, steps=closed(state.steps))
        case _:
            return _with_step(state, event)


def closed(steps: Steps) -> Steps:
    """Return the steps with everything cancelled that is not over."""
    return {
        path: step if step.status in OVER else replace(step, status=StepStatus.CANCELLED)
        for path, step in steps.items()
    }


def expanded(path: str, items: tuple[object, ...], body: tuple[str, ...]) -> Steps:
    """Return the steps that a `for_each` over these items has, all pending."""
    return {item_path(path, index, step_id): StepState() for index in range(len(items)) for step_id in body}


def _with_step(state: ExecutionState, event: StepEvent) -> ExecutionState:
    step = state.steps[event.path]
    if step.status in OVER:
        raise Conflict(f"step {event.path} is {step.status}, {type(event).__name__} comes too late")
    steps = {**state.steps, event.path: _moved(step, event)}
    match event:
        case StepExpanded():
            steps |= expanded(event.path, event.items, event.body)
        case LoopEnded():
            steps = {path: one for path, one in steps.items() if not _is_after(path, event)}
        case StepSucceeded() | StepFailed() if step.items is not None:
            own = {path: one for path, one in steps.items() if read_path(path).loop == event.path}
            steps |= closed(own)
        case _:
            pass
    return replace(state, steps=steps)


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
        case StepRetryScheduled() if step.status is StepStatus.RUNNING or _is_put_off(step):
            return replace(step, status=StepStatus.PENDING, error=event.error, retry_at=event.retry_at)
        case StepParked() if step.status is StepStatus.RUNNING:
            return replace(step, status=StepStatus.WAITING, expires_at=event.expires_at)
        case StepExpanded() if step.status is StepStatus.RUNNING:
            return replace(step, status=StepStatus.WAITING, items=event.items)
        case LoopEnded() if step.items is not None and event.count < len(step.items):
            return replace(step, items=step.items[: event.count])
        case _:
            raise Conflict(f"step {event.path} is {step.status}, {type(event).__name__} cannot happen")


def _is_put_off(step: StepState) -> bool:
    """True for a step whose retry is due: it may be put off once more."""
    return step.status is StepStatus.PENDING and step.retry_at is not None


def _is_after(path: str, ended: LoopEnded) -> bool:
    found = read_path(path)
    return found.loop == ended.path and found.index is not None and found.index >= ended.count
