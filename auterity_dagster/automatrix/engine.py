"""Advances claimed executions: step by step, concurrently over a batch, each result committed before the next begins.

A worker may die anywhere. What it had committed stands, what it had begun is begun again under the same attempt
number, and what it had sent is looked up and not sent again.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from uuid import UUID

from pydantic import ValidationError

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepAction, StepContext, Wait
from auterity_dagster.automatrix.binding import fill
from auterity_dagster.automatrix.execution import (
    ATTEMPTS_LIMIT,
    EndTurn,
    ExecutionEvent,
    ExecutionState,
    Released,
    RunStep,
    StepError,
    StepFailed,
    StepParked,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepState,
    StepStatus,
    apply,
    is_last_start,
    next_actions,
)
from auterity_dagster.automatrix.expression import ExpressionFailed
from auterity_dagster.automatrix.inputs import INPUTS
from auterity_dagster.automatrix.leases import LEASE, kept_leases
from auterity_dagster.automatrix.ports import Claim, Entry, Journal, Snapshot
from auterity_dagster.automatrix.publication import CompiledStep
from auterity_dagster.automatrix.workflow import Step, StepKind
from auterity_dagster.clock import Clock
from auterity_dagster.errors import LeaseLost

WORKERS = 32
WORKERS_PER_ORGANIZATION = 8
BATCH_LIMIT = 50
RETRY_IN_PLACE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What an op did: counts only, no customer's data."""

    claims: tuple[Claim, ...]
    outcomes: Mapping[str, int]


class Engine:
    """Holds no state of its own: everything it knows is in the journal."""

    def __init__(
        self,
        *,
        journal: Journal,
        actions: Mapping[StepKind, StepAction],
        clock: Clock,
        pause: Callable[[float], None],
        jitter: Callable[[], float],
        workers: int = WORKERS,
    ) -> None:
        self._journal = journal
        self._actions = actions
        self._clock = clock
        self._pause = pause
        self._jitter = jitter
        self._workers = workers

    def claim(self, *, job: str, lane: str, run_id: str, batch: int = BATCH_LIMIT) -> tuple[Claim, ...]:
        """Take executions that are ready."""
        now = self._clock.now()
        return self._journal.claim(job=job, lane=lane, batch=batch, run_id=run_id, now=now, lease_until=now + LEASE)

    def advance(self, path: str, claims: Sequence[Claim]) -> BatchReport:
        """Work on one step of every execution of the batch that is ready for it."""
        return self._each(claims, lambda snapshot: self._advance_step(snapshot, path))

    def advance_all(self, claims: Sequence[Claim]) -> BatchReport:
        """Work on every step that is ready, until none is."""
        return self._each(claims, lambda snapshot: self._advance_steps(snapshot).state.status.value)

    def finish(self, claims: Sequence[Claim]) -> BatchReport:
        """Let go of every execution of the batch: over, waiting, or for a later turn."""
        return self._each(claims, self._end_turn)

    def _each(self, claims: Sequence[Claim], work: Callable[[Snapshot], str]) -> BatchReport:
        with kept_leases(self._journal, self._clock, claims), ThreadPoolExecutor(self._workers) as pool:
            snapshots = self._journal.load(claims)
            gates: Mapping[UUID, BoundedSemaphore] = defaultdict(lambda: BoundedSemaphore(WORKERS_PER_ORGANIZATION))

            def one(snapshot: Snapshot) -> tuple[Claim, str]:
                with gates[snapshot.claim.organization_id]:
                    try:
                        return snapshot.claim, work(snapshot)
                    except LeaseLost:
                        return snapshot.claim, "lease_lost"

            results = list(pool.map(one, snapshots))
        outcomes: dict[str, int] = defaultdict(int)
        for _claim, outcome in results:
            outcomes[outcome] += 1
        kept = tuple(claim for claim, outcome in results if outcome != "lease_lost")
        return BatchReport(kept, dict(outcomes))

    def _advance_steps(self, snapshot: Snapshot) -> Snapshot:
        while isinstance(action := self._next(snapshot)[0], RunStep):
            snapshot = self._run(snapshot, action.path)
        return snapshot

    def _advance_step(self, snapshot: Snapshot, path: str) -> str:
        if RunStep(path) not in self._next(snapshot):
            return "not_ready"
        after = self._run(snapshot, path).state.steps[path]
        return after.status.value

    def _end_turn(self, snapshot: Snapshot) -> str:
        # Somebody may have decided meanwhile, and a template that was edited since has other steps than its job.
        snapshot = self._advance_steps(snapshot)
        action = self._next(snapshot)[0]
        if isinstance(action, RunStep):
            return self._commit(snapshot, (Released(self._clock.now()),)).state.status.value
        return self._commit(snapshot, (action.event,)).state.status.value

    def _next(self, snapshot: Snapshot) -> tuple[RunStep | EndTurn, ...]:
        return next_actions(snapshot.workflow.definition, snapshot.state, self._clock.now())

    def _run(self, snapshot: Snapshot, path: str) -> Snapshot:
        """One step until it is over, parked or put off; short waits for a retry happen here."""
        while True:
            snapshot = self._attempt(snapshot, path)
            step = snapshot.state.steps[path]
            if step.status is not StepStatus.PENDING or step.retry_at is None:
                return snapshot
            wait = step.retry_at - self._clock.now()
            if wait > RETRY_IN_PLACE:
                return snapshot
            self._pause(max(wait.total_seconds(), 0.0))

    def _attempt(self, snapshot: Snapshot, path: str) -> Snapshot:
        compiled = snapshot.workflow.steps[path]
        step = snapshot.state.steps[path]
        scope = _scope(snapshot)
        resumed = step.status in (StepStatus.WAITING, StepStatus.RUNNING)
        try:
            if not resumed and compiled.when is not None and not compiled.when.holds(scope):
                return self._commit(snapshot, (StepSkipped(path),))
            inputs = INPUTS[compiled.step.kind].model_validate(
                {name: fill(one, scope) for name, one in compiled.inputs.items()}
            )
            key = _text_of(compiled, scope)
        except (ExpressionFailed, ValidationError) as error:
            failed = StepFailed(path, StepError("invalid_input", _reason(error)))
            return self._commit(snapshot, (*_started(path, step), failed))
        if is_last_start(step):
            died = StepError("worker_lost", f"{step.starts} workers died in this step")
            return self._commit(snapshot, (StepFailed(path, died),))
        return self._act(snapshot, compiled, _context(snapshot, compiled, scope, key, self._clock.now()), inputs)

    def _act(self, snapshot: Snapshot, compiled: CompiledStep, context: StepContext, inputs: object) -> Snapshot:
        action = self._actions[compiled.step.kind]
        path = compiled.step.id
        record = None
        if snapshot.state.steps[path].status is not StepStatus.WAITING:
            digest = hashlib.sha256(json.dumps(repr(inputs)).encode()).hexdigest()
            started = StepStarted(path, context.attempt, digest)
            record = self._journal.begin_step(
                snapshot,
                started,
                effect=action.effect(context, inputs),
                now=context.now,
                lease_until=context.now + compiled.step.timeout + LEASE,
            )
            snapshot = replace(snapshot, state=apply(snapshot.state, started))
        outcome = action.perform(context, inputs, record)
        return self._commit(snapshot, self._entries(compiled.step, context.attempt, outcome))

    def _entries(self, step: Step, attempt: int, outcome: Outcome) -> tuple[Entry, ...]:
        match outcome:
            case Done():
                return (*outcome.entries, outcome.result)
            case Wait():
                return (*outcome.entries, StepParked(step.id, outcome.expires_at))
            case NotDone():
                return (*outcome.entries, self._after_failure(step, attempt, outcome))

    def _after_failure(self, step: Step, attempt: int, outcome: NotDone) -> StepRetryScheduled | StepFailed:
        retry = step.retry
        limit = min(retry.max_attempts, ATTEMPTS_LIMIT)
        if outcome.error.code not in retry.retry_on or attempt >= limit:
            return StepFailed(step.id, outcome.error)
        growth = 2 ** (attempt - 1) if retry.backoff == "exponential" else 1
        delay_s = min(retry.initial.total_seconds() * growth, retry.max.total_seconds()) * self._jitter()
        if outcome.retry_after_s is not None:
            delay_s = outcome.retry_after_s
        return StepRetryScheduled(step.id, outcome.error, self._clock.now() + timedelta(seconds=delay_s))

    def _commit(self, snapshot: Snapshot, entries: Sequence[Entry]) -> Snapshot:
        after = _applied(snapshot.state, entries)
        self._journal.write(snapshot, entries, after=after, now=self._clock.now())
        return replace(snapshot, state=after)


def _applied(state: ExecutionState, entries: Iterable[Entry]) -> ExecutionState:
    for entry in entries:
        if isinstance(entry, ExecutionEvent):
            state = apply(state, entry)
    return state


def _started(path: str, step: StepState) -> tuple[StepStarted, ...]:
    return () if step.status is StepStatus.WAITING else (StepStarted(path, _attempt_number(step)),)


def _attempt_number(step: StepState) -> int:
    return step.attempt if step.status in (StepStatus.RUNNING, StepStatus.WAITING) else step.attempt + 1


def _context(
    snapshot: Snapshot, compiled: CompiledStep, scope: Mapping[str, object], key: str | None, now: datetime
) -> StepContext:
    path = compiled.step.id
    return StepContext(
        snapshot=snapshot,
        compiled=compiled,
        attempt=_attempt_number(snapshot.state.steps[path]),
        scope=scope,
        idempotency_key=key,
        now=now,
        decision=snapshot.decisions.get(path),
    )


def _scope(snapshot: Snapshot) -> Mapping[str, object]:
    steps = {
        path: {
            "status": step.status.value,
            "output": dict(step.output),
            "attempts": step.attempt,
            "error": None if step.error is None else {"code": step.error.code, "message": step.error.message},
        }
        for path, step in snapshot.state.steps.items()
    }
    return {**snapshot.scope, "steps": steps}


def _text_of(compiled: CompiledStep, scope: Mapping[str, object]) -> str | None:
    if compiled.idempotency_key is None:
        return None
    key = compiled.idempotency_key.evaluate(scope)
    if not isinstance(key, str) or not 1 <= len(key) <= 300:
        raise ExpressionFailed(f"the idempotency key is {key!r}, a text of 1-300 characters was expected")
    return key


def _reason(error: ExpressionFailed | ValidationError) -> str:
    if isinstance(error, ExpressionFailed):
        return error.message
    return "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
