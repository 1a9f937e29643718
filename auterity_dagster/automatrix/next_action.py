"""What a worker that holds an execution may do now: pure, decided from the definition and the state alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from auterity_dagster.automatrix.execution import (
    EXECUTION_ATTEMPTS_LIMIT,
    FINAL,
    LOST_WORKERS_LIMIT,
    OVER,
    CancelRequested,
    ExecutionState,
    Failed,
    FailureBegan,
    Finished,
    Parked,
    Released,
    StepError,
    StepState,
    StepStatus,
)
from auterity_dagster.automatrix.step_path import item_path
from auterity_dagster.automatrix.workflow import Step, WorkflowDefinition, needs_of


@dataclass(frozen=True, slots=True)
class RunStep:
    """Begin or resume this step."""

    path: str


@dataclass(frozen=True, slots=True)
class HandleFailure:
    """Record that the execution is about to fail, and ask again."""

    event: FailureBegan


@dataclass(frozen=True, slots=True)
class EndTurn:
    """Nothing to run: record this and let go."""

    event: Parked | Released | Finished | Failed | CancelRequested


Action = RunStep | HandleFailure | EndTurn

STUCK = "nothing is ready, nothing waits, and the workflow is not over"
FAILURE_TIME = timedelta(hours=1)
"""How long the steps of `on_failure` may take beyond the execution's deadline."""


def next_actions(definition: WorkflowDefinition, state: ExecutionState, now: datetime) -> tuple[Action, ...]:
    """Return what a worker that holds the execution may do now; a final one gives nothing.

    A step found `running` belonged to a worker that died: the same attempt begins again, so that a gateway that saw
    its idempotency key gives the first answer.
    """
    if state.status in FINAL:
        return ()
    if state.is_cancel_requested:
        return (EndTurn(CancelRequested()),)
    if state.error is not None:
        return _before_failing(definition, state, state.error, now)
    if now >= state.deadline_at:
        return (_failed(definition, "timeout", "the execution's time ran out"),)
    for step in definition.steps:
        found = state.steps[step.id]
        if found.status is StepStatus.FAILED and step.on_error == "fail":
            error = found.error or StepError("failed", "no reason was recorded")
            return (_failed(definition, error.code, f"step {step.id}: {error.message}"),)
        if _is_stop(found):
            return (EndTurn(Finished()),)
    live = list(_live(definition, state))
    ready = [path for path, needs in live if _is_ready(state, path, needs, now)]
    if not ready:
        steps = [state.steps[path] for path, _needs in live]
        if any(step.status not in OVER for step in steps):
            return (_rest(steps, state.deadline_at) or _failed(definition, "engine_stuck", STUCK),)
        return (EndTurn(Finished()),)
    is_beginning = any(state.steps[path].status is StepStatus.PENDING for path in ready)
    if is_beginning and sum(step.attempt for step in state.steps.values()) >= EXECUTION_ATTEMPTS_LIMIT:
        reason = f"an execution has {EXECUTION_ATTEMPTS_LIMIT} attempts, over all its steps and items"
        return (_failed(definition, "attempts_limit", reason),)
    return tuple(RunStep(path) for path in ready)


def is_last_start(step: StepState) -> bool:
    """True if three workers died in this attempt: it kills whoever tries it."""
    return step.status is StepStatus.RUNNING and step.starts >= LOST_WORKERS_LIMIT


def is_item_begun(step: Step, state: ExecutionState, index: int) -> bool:
    """True once any step of this item of a `for_each` has begun."""
    return any(state.steps[item_path(step.id, index, one.id)].is_begun for one in step.steps)


def item_error(step: Step, state: ExecutionState, index: int) -> StepError | None:
    """Return why an item of a `for_each` ended early, None if it did not fail."""
    for one in step.steps:
        found = state.steps[item_path(step.id, index, one.id)]
        if found.status is StepStatus.FAILED and one.on_error == "fail":
            error = found.error or StepError("failed", "no reason was recorded")
            return StepError(error.code, f"step {one.id}: {error.message}")
    return None


def _failed(definition: WorkflowDefinition, code: str, message: str) -> HandleFailure | EndTurn:
    error = StepError(code, message)
    if definition.on_failure:
        return HandleFailure(FailureBegan(error, tuple(step.id for step in definition.on_failure)))
    return EndTurn(Failed(error))


def _before_failing(
    definition: WorkflowDefinition, state: ExecutionState, error: StepError, now: datetime
) -> tuple[Action, ...]:
    """The steps of `on_failure`, one after the other, whatever becomes of each; then the failure."""
    until = state.deadline_at + FAILURE_TIME
    if now >= until:
        return (EndTurn(Failed(error)),)
    steps = definition.on_failure
    needs = [needs_of(steps, index) for index in range(len(steps))]
    ready = [step.id for step, own in zip(steps, needs, strict=True) if _is_ready(state, step.id, own, now)]
    if ready:
        return tuple(RunStep(path) for path in ready)
    return (_rest([state.steps[step.id] for step in steps], until) or EndTurn(Failed(error)),)


def _live(definition: WorkflowDefinition, state: ExecutionState) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every path that may still matter, with the paths that must be over before it."""
    for index, step in enumerate(definition.steps):
        loop = state.steps[step.id]
        if loop.items is None or loop.status in OVER:
            yield step.id, needs_of(definition.steps, index)
        else:
            yield from _live_items(step, loop.items, state)


def _live_items(step: Step, items: tuple[object, ...], state: ExecutionState) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The steps of the items that are begun, and of as many more as may be; the loop itself once all are over."""
    open_items = 0
    for index in range(len(items)):
        if _is_item_over(step, state, index):
            continue
        if open_items == step.max_concurrency:
            return
        open_items += 1
        for position, one in enumerate(step.steps):
            needs = tuple(item_path(step.id, index, need) for need in needs_of(step.steps, position))
            yield item_path(step.id, index, one.id), needs
    if not open_items:
        yield step.id, ()


def _is_item_over(step: Step, state: ExecutionState, index: int) -> bool:
    found = [state.steps[item_path(step.id, index, one.id)] for one in step.steps]
    if any(_is_stop(one) for one in found) or item_error(step, state, index) is not None:
        return True
    return all(one.status in OVER for one in found)


def _is_stop(step: StepState) -> bool:
    return step.status is StepStatus.SUCCEEDED and step.output.get("stop") is True


def _is_ready(state: ExecutionState, path: str, needs: tuple[str, ...], now: datetime) -> bool:
    found = state.steps[path]
    match found.status:
        case StepStatus.PENDING:
            is_due = found.retry_at is None or found.retry_at <= now
            return is_due and all(state.steps[need].status in OVER for need in needs)
        case StepStatus.RUNNING:
            return True
        case StepStatus.WAITING:
            is_expired = found.expires_at is not None and found.expires_at <= now
            # A loop is live itself only when every item is over.
            return found.items is not None or found.is_answered or is_expired
        case _:
            return False


def _rest(steps: list[StepState], until: datetime) -> EndTurn | None:
    """Return how to let go of steps of which none is ready, None if nothing will ever make one so."""
    waiting = [step for step in steps if step.status is StepStatus.WAITING]
    expiries = [step.expires_at for step in waiting if step.expires_at is not None]
    retries = [step.retry_at for step in steps if step.status is StepStatus.PENDING and step.retry_at is not None]
    if retries:
        return EndTurn(Released(min([*retries, *expiries, until])))
    return EndTurn(Parked(min([*expiries, until]))) if waiting else None
