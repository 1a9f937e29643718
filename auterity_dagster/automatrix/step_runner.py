"""One step of one execution: its condition, its inputs, its action, its retries, each result committed at once."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from auterity_dagster.automatrix.actions.outcome import Done, Later, NotDone, Outcome, StepAction, StepContext, Wait
from auterity_dagster.automatrix.binding import fill
from auterity_dagster.automatrix.compiled_workflow import CompiledLoop, CompiledStep
from auterity_dagster.automatrix.execution import (
    ATTEMPTS_LIMIT,
    ExecutionEvent,
    ExecutionState,
    StepError,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepState,
    StepStatus,
    StepSucceeded,
)
from auterity_dagster.automatrix.expression import ExpressionFailed
from auterity_dagster.automatrix.inputs import INPUTS
from auterity_dagster.automatrix.leases import LEASE
from auterity_dagster.automatrix.loop import listed_items, loop_output, stops_before
from auterity_dagster.automatrix.next_action import is_last_start
from auterity_dagster.automatrix.ports import AnsweredMeanwhile, Entry, Journal, Snapshot
from auterity_dagster.automatrix.retry_budget import RetryBudget, system_of
from auterity_dagster.automatrix.scope import scope_of
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.transition import apply
from auterity_dagster.automatrix.workflow import INSIDE, BodyStep, StepKind
from auterity_dagster.clock import Clock
from auterity_dagster.errors import LeaseLost

RETRY_IN_PLACE = timedelta(seconds=5)
RETRY_PUT_OFF = timedelta(seconds=30)
"""How long a retry waits for which its system's budget has no room, at least; at most twice as long."""
OUTPUT_LIMIT_BYTES = 1024 * 1024


class StepRunner:
    """Runs steps of executions that this worker holds, one at a time for each."""

    def __init__(
        self,
        *,
        journal: Journal,
        actions: Mapping[StepKind, StepAction],
        clock: Clock,
        pause: Callable[[float], None],
        jitter: Callable[[], float],
        retries: RetryBudget,
    ) -> None:
        self._journal = journal
        self._actions = actions
        self._clock = clock
        self._pause = pause
        self._jitter = jitter
        self._retries = retries

    def run(self, snapshot: Snapshot, path: str) -> Snapshot:
        """One step until it is over, parked or put off; short waits for a retry happen here. Raises `LeaseLost`."""
        while True:
            snapshot = self._attempt(snapshot, path)
            step = snapshot.state.steps.get(path)
            if step is None or step.status is not StepStatus.PENDING or step.retry_at is None:
                return snapshot
            wait = step.retry_at - self._clock.now()
            if wait > RETRY_IN_PLACE:
                return snapshot
            self._pause(max(wait.total_seconds(), 0.0))

    def commit(self, snapshot: Snapshot, entries: Sequence[Entry]) -> Snapshot:
        """Write entries and return the execution after them."""
        after = _applied(snapshot.state, entries)
        self._journal.write(snapshot, entries, after=after, now=self._clock.now())
        return replace(snapshot, state=after)

    def _attempt(self, snapshot: Snapshot, path: str) -> Snapshot:
        compiled = snapshot.workflow.at(path)
        step = snapshot.state.steps[path]
        scope = scope_of(snapshot, path)
        resumed = step.status in (StepStatus.WAITING, StepStatus.RUNNING)
        try:
            if (ended := stops_before(snapshot, path, scope)) is not None:
                return self.commit(snapshot, (ended,))
            if not resumed and compiled.when is not None and not compiled.when.holds(scope):
                return self.commit(snapshot, (StepSkipped(path),))
            if compiled.loop is not None:
                return self._loop(snapshot, path, compiled.loop, scope)
            inputs = INPUTS[compiled.step.kind].model_validate(
                {name: fill(one, scope) for name, one in compiled.inputs.items()}
            )
            key = _key(compiled, path, scope)
        except (ExpressionFailed, ValidationError) as error:
            failed = StepFailed(path, StepError("invalid_input", _reason(error)))
            return self.commit(snapshot, (*_started(path, step), failed))
        if (put_off := self._put_off(snapshot, path, inputs)) is not None:
            return self.commit(snapshot, (put_off,))
        if is_last_start(step):
            died = StepError("worker_lost", f"{step.starts} workers died in this step")
            return self.commit(snapshot, (StepFailed(path, died),))
        try:
            return self._act(snapshot, compiled, _context(snapshot, path, scope, key, self._clock.now()), inputs)
        except AnsweredMeanwhile:
            return self._loaded_again(snapshot)

    def _put_off(self, snapshot: Snapshot, path: str, inputs: object) -> StepRetryScheduled | None:
        """Count the call that a step is about to make, or say that this retry has to wait: its system has enough."""
        step, system, now = snapshot.state.steps[path], system_of(inputs), self._clock.now()
        if system is None or step.status is not StepStatus.PENDING:
            return None
        key = (snapshot.claim.organization_id, system)
        if step.error is None or step.error.code not in snapshot.workflow.at(path).step.retry.retry_on:
            self._retries.called(key, now)
            return None
        if self._retries.take(key, now):
            return None
        return StepRetryScheduled(path, step.error, now + RETRY_PUT_OFF * (1 + self._jitter()))

    def _loop(self, snapshot: Snapshot, path: str, loop: CompiledLoop, scope: Mapping[str, object]) -> Snapshot:
        """Find out what it goes over, or, every item over, give what came of them."""
        step = snapshot.state.steps[path]
        if step.items is None:
            listed = listed_items(path, loop, scope)
            result = StepFailed(path, listed) if isinstance(listed, StepError) else listed
            return self.commit(snapshot, (*_started(path, step), result))
        return self.commit(snapshot, (_result(StepSucceeded(path, loop_output(snapshot, path, loop))),))

    def _act(self, snapshot: Snapshot, compiled: CompiledStep, context: StepContext, inputs: object) -> Snapshot:
        action = self._actions[compiled.step.kind]
        path = context.path
        record = None
        if snapshot.state.steps[path].status is not StepStatus.WAITING:
            digest = hashlib.sha256(json.dumps(repr(inputs)).encode()).hexdigest()
            started = StepStarted(path, context.attempt, digest)
            if compiled.step.kind in INSIDE:
                outcome = action.perform(context, inputs, None)
                return self.commit(snapshot, (started, *self._entries(compiled.step, context, outcome)))
            record = self._journal.begin_step(
                snapshot,
                started,
                effect=action.effect(context, inputs),
                now=context.now,
                lease_until=context.now + compiled.step.timeout + LEASE,
            )
            snapshot = replace(snapshot, state=apply(snapshot.state, started))
        outcome = action.perform(context, inputs, record)
        return self.commit(snapshot, self._entries(compiled.step, context, outcome))

    def _entries(self, step: BodyStep, context: StepContext, outcome: Outcome) -> tuple[Entry, ...]:
        match outcome:
            case Done():
                return (*outcome.entries, _result(outcome.result))
            case Wait():
                return (*outcome.entries, StepParked(context.path, outcome.expires_at))
            case NotDone():
                return (*outcome.entries, self._after_failure(step, context, outcome))
            case Later():
                return (StepRetryScheduled(context.path, outcome.error, outcome.until),)

    def _after_failure(self, step: BodyStep, context: StepContext, outcome: NotDone) -> StepRetryScheduled | StepFailed:
        retry = step.retry
        limit = min(retry.max_attempts, ATTEMPTS_LIMIT)
        if outcome.error.code not in retry.retry_on or context.attempt >= limit:
            return StepFailed(context.path, outcome.error)
        growth = 2 ** (context.attempt - 1) if retry.backoff == "exponential" else 1
        delay_s = min(retry.initial.total_seconds() * growth, retry.max.total_seconds()) * self._jitter()
        if outcome.retry_after_s is not None:
            delay_s = outcome.retry_after_s
        retry_at = self._clock.now() + timedelta(seconds=delay_s)
        return StepRetryScheduled(context.path, outcome.error, retry_at)

    def _loaded_again(self, snapshot: Snapshot) -> Snapshot:
        found = self._journal.load((snapshot.claim,))
        if not found:
            raise LeaseLost(f"execution {snapshot.claim.execution_id} has a newer fence")
        return found[0]


def _applied(state: ExecutionState, entries: Iterable[Entry]) -> ExecutionState:
    for entry in entries:
        if isinstance(entry, ExecutionEvent):
            state = apply(state, entry)
    return state


def _result(result: StepSucceeded) -> StepSucceeded | StepFailed:
    size = len(json.dumps(dict(result.output), ensure_ascii=False).encode())
    if size <= OUTPUT_LIMIT_BYTES:
        return result
    reason = f"the output has {size} bytes, {OUTPUT_LIMIT_BYTES} are allowed"
    return StepFailed(result.path, StepError("output_too_large", reason))


def _started(path: str, step: StepState) -> tuple[StepStarted, ...]:
    return () if step.status is StepStatus.WAITING else (StepStarted(path, _attempt_number(step)),)


def _attempt_number(step: StepState) -> int:
    return step.attempt if step.status in (StepStatus.RUNNING, StepStatus.WAITING) else step.attempt + 1


def _context(snapshot: Snapshot, path: str, scope: Mapping[str, object], key: str | None, now: datetime) -> StepContext:
    return StepContext(
        snapshot=snapshot,
        path=path,
        compiled=snapshot.workflow.at(path),
        attempt=_attempt_number(snapshot.state.steps[path]),
        scope=scope,
        idempotency_key=key,
        now=now,
        decision=snapshot.decisions.get(path),
        arrival=snapshot.arrivals.get(path),
    )


def _key(compiled: CompiledStep, path: str, scope: Mapping[str, object]) -> str | None:
    """The step's idempotency key; inside a `for_each` each item has its own, whatever the expression says."""
    if compiled.idempotency_key is None:
        return None
    key = compiled.idempotency_key.evaluate(scope)
    if not isinstance(key, str) or not 1 <= len(key) <= 300:
        raise ExpressionFailed(f"the idempotency key is {key!r}, a text of 1-300 characters was expected")
    place = read_path(path)
    return key if place.loop is None else f"{key}:{place.loop}[{place.index}]"


def _reason(error: ExpressionFailed | ValidationError) -> str:
    if isinstance(error, ExpressionFailed):
        return error.message
    return "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
