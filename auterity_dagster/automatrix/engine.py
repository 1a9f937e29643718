"""Advances claimed executions: step by step, concurrently over a batch.

What a step did outside is committed before the next one begins; steps that only decide share a transaction. A worker
may die anywhere. What it had committed stands, what it had begun is begun again under the same attempt
number, and what it had sent is looked up and not sent again.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from uuid import UUID

from auterity_dagster.automatrix.actions.outcome import StepAction
from auterity_dagster.automatrix.execution import Finished
from auterity_dagster.automatrix.gathered_writes import GatheredWrites
from auterity_dagster.automatrix.leases import LEASE, kept_leases
from auterity_dagster.automatrix.next_action import Action, EndTurn, RunStep, next_actions
from auterity_dagster.automatrix.ports import Claim, Journal, Snapshot
from auterity_dagster.automatrix.retry_budget import RetryBudget
from auterity_dagster.automatrix.scope import outputs_of
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.step_runner import StepRunner
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.clock import Clock
from auterity_dagster.errors import LeaseLost

WORKERS = 32
WORKERS_PER_ORGANIZATION = 8
BATCH_LIMIT = 50
LINGER = timedelta(seconds=5)
"""How long a run that has nothing more to do waits for the next execution, while nobody else waits for a worker."""
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What an op did: counts only, no customer's data."""

    claims: tuple[Claim, ...]
    outcomes: Mapping[str, int]


class Engine:
    """All it knows of executions is in the journal; of its own it only counts calls, for the retry budget."""

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
        self._retries = RetryBudget()
        self._workers = workers

    def claim(self, *, job: str, lane: str, run_id: str, batch: int = BATCH_LIMIT) -> tuple[Claim, ...]:
        """Take executions that are ready."""
        now = self._clock.now()
        return self._journal.claim(job=job, lane=lane, batch=batch, run_id=run_id, now=now, lease_until=now + LEASE)

    def advance(self, path: str, claims: Sequence[Claim]) -> BatchReport:
        """Work on one step of every execution of the batch that is ready for it."""
        return self._each(claims, lambda steps, snapshot: self._advance_step(steps, snapshot, path))

    def advance_all(self, claims: Sequence[Claim]) -> BatchReport:
        """Work on every step that is ready, until none is."""
        return self._each(claims, lambda steps, snapshot: self._advance_steps(steps, snapshot)[0].state.status.value)

    def finish(self, claims: Sequence[Claim]) -> BatchReport:
        """Let go of every execution of the batch: over, waiting, or for a later turn."""
        return self._each(claims, self._end_turn)

    def carry_on(self, *, job: str, lane: str, run_id: str, until: datetime) -> BatchReport:
        """Take further batches and bring each as far as it comes: a worker that runs already costs no start.

        It ends at `until`, or when nothing came for a while, or at once if only executions of other jobs are ready.
        """
        taken: list[Claim] = []
        outcomes: Counter[str] = Counter()
        idle_since = self._clock.now()
        while (now := self._clock.now()) < until:
            claims = self.claim(job=job, lane=lane, run_id=run_id)
            if claims:
                report = self.finish(claims)
                taken += report.claims
                outcomes.update(report.outcomes)
                idle_since = self._clock.now()
            elif now - idle_since >= LINGER or self._journal.is_work_ready(now):
                break
            else:
                self._pause(LOOK_AGAIN_S)
        return BatchReport(tuple(taken), outcomes)

    def _each(self, claims: Sequence[Claim], work: Callable[[StepRunner, Snapshot], str]) -> BatchReport:
        with kept_leases(self._journal, self._clock, claims), ThreadPoolExecutor(self._workers) as pool:
            snapshots = self._journal.load(claims)
            gates: Mapping[UUID, BoundedSemaphore] = defaultdict(lambda: BoundedSemaphore(WORKERS_PER_ORGANIZATION))

            def one(snapshot: Snapshot) -> tuple[Claim, str]:
                writes = GatheredWrites(self._journal)
                with gates[snapshot.claim.organization_id]:
                    try:
                        outcome = work(self._runner(writes), snapshot)
                        writes.flush()
                        return snapshot.claim, outcome
                    except LeaseLost:
                        return snapshot.claim, "lease_lost"

            results = list(pool.map(one, snapshots))
        outcomes: dict[str, int] = defaultdict(int)
        for _claim, outcome in results:
            outcomes[outcome] += 1
        kept = tuple(claim for claim, outcome in results if outcome != "lease_lost")
        return BatchReport(kept, dict(outcomes))

    def _runner(self, journal: Journal) -> StepRunner:
        return StepRunner(
            journal=journal,
            actions=self._actions,
            clock=self._clock,
            pause=self._pause,
            jitter=self._jitter,
            retries=self._retries,
        )

    def _advance_steps(self, steps: StepRunner, snapshot: Snapshot) -> tuple[Snapshot, EndTurn]:
        while not isinstance(action := self._next(snapshot)[0], EndTurn):
            if isinstance(action, RunStep):
                snapshot = steps.run(snapshot, action.path)
            else:
                snapshot = steps.commit(snapshot, (action.event,))
        return snapshot, action

    def _advance_step(self, steps: StepRunner, snapshot: Snapshot, top: str) -> str:
        is_ready = False
        while ready := [one.path for one in self._next(snapshot) if isinstance(one, RunStep) and _is_in(one, top)]:
            is_ready = True
            snapshot = steps.run(snapshot, ready[0])
        return snapshot.state.steps[top].status.value if is_ready else "not_ready"

    def _end_turn(self, steps: StepRunner, snapshot: Snapshot) -> str:
        # Somebody may have decided meanwhile, and a template that was edited since has other steps than its job.
        snapshot, action = self._advance_steps(steps, snapshot)
        event = Finished(outputs_of(snapshot)) if isinstance(action.event, Finished) else action.event
        return steps.commit(snapshot, (event,)).state.status.value

    def _next(self, snapshot: Snapshot) -> tuple[Action, ...]:
        return next_actions(snapshot.workflow.definition, snapshot.state, self._clock.now())


def _is_in(action: RunStep, top: str) -> bool:
    return read_path(action.path).top == top
