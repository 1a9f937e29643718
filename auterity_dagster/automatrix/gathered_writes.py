"""One execution's writes, gathered while nothing happens outside: steps that only decide share one transaction."""

from collections.abc import Sequence
from datetime import datetime

from auterity_dagster.automatrix.execution import (
    ExecutionState,
    StepExpanded,
    StepFailed,
    StepParked,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from auterity_dagster.automatrix.ports import (
    ApprovalOpened,
    Claim,
    Effect,
    EffectRecord,
    Entry,
    Journal,
    Snapshot,
    TaskAssigned,
    WaitOpened,
)

GATHERED = (
    StepStarted,
    StepSucceeded,
    StepFailed,
    StepSkipped,
    StepParked,
    StepExpanded,
    TaskAssigned,
    WaitOpened,
    ApprovalOpened,
)
"""What may stand uncommitted while the next step is decided: doing it again gives the same."""

GATHERED_LIMIT = 200


class GatheredWrites:
    """`automatrix.ports.Journal` for one execution of a batch; call `flush` when its work is over.

    What a call to the outside gave is committed at once. Everything else waits until a step begins outside, a write
    needs its answer, or the turn ends: a worker that dies before loses what the next one decides in the same way.
    """

    def __init__(self, inner: Journal) -> None:
        self._inner = inner
        self._entries: tuple[Entry, ...] = ()
        self._last: tuple[Snapshot, ExecutionState, datetime] | None = None
        self._is_outside = False

    def claim(
        self, *, job: str, lane: str, batch: int, run_id: str, now: datetime, lease_until: datetime
    ) -> tuple[Claim, ...]:
        return self._inner.claim(job=job, lane=lane, batch=batch, run_id=run_id, now=now, lease_until=lease_until)

    def is_work_ready(self, now: datetime) -> bool:
        return self._inner.is_work_ready(now)

    def load(self, claims: Sequence[Claim]) -> tuple[Snapshot, ...]:
        return self._inner.load(claims)

    def extend(self, claims: Sequence[Claim], lease_until: datetime) -> None:
        self._inner.extend(claims, lease_until)

    def begin_step(
        self,
        snapshot: Snapshot,
        started: StepStarted,
        *,
        effect: Effect | None,
        now: datetime,
        lease_until: datetime,
        before: Sequence[Entry] = (),
    ) -> EffectRecord | None:
        before = (*self._taken(), *before)
        self._is_outside = True
        return self._inner.begin_step(snapshot, started, effect=effect, now=now, lease_until=lease_until, before=before)

    def write(self, snapshot: Snapshot, entries: Sequence[Entry], *, after: ExecutionState, now: datetime) -> None:
        is_kept = all(isinstance(entry, GATHERED) for entry in entries) and len(self._entries) < GATHERED_LIMIT
        if is_kept and not self._is_outside:
            self._entries = (*self._entries, *entries)
            self._last = (snapshot, after, now)
            return
        self._is_outside = False
        self._inner.write(snapshot, (*self._taken(), *entries), after=after, now=now)

    def flush(self) -> None:
        """Commit what was gathered. Raises `LeaseLost`."""
        if self._last is not None and self._entries:
            snapshot, after, now = self._last
            self._inner.write(snapshot, self._taken(), after=after, now=now)

    def _taken(self) -> tuple[Entry, ...]:
        entries, self._entries = self._entries, ()
        return entries
