"""A journal for one execution that nobody keeps: what a trial run writes, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from auterity_dagster.automatrix.execution import ExecutionState, Parked, Released, Status, StepStarted
from auterity_dagster.automatrix.ports import Claim, Effect, EffectRecord, EffectState, Entry, Snapshot
from auterity_dagster.automatrix.transition import apply


class TrialJournal:
    """`automatrix.ports.Journal` over one snapshot; `entries` is everything that was written, in order."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.entries: list[Entry] = []
        self.attempts: dict[str, int] = {}
        self.resumes_at: datetime | None = None
        self._keys: set[str] = set()

    def claim(
        self, *, job: str, lane: str, batch: int, run_id: str, now: datetime, lease_until: datetime
    ) -> tuple[Claim, ...]:
        self._replace(replace(self.snapshot.state, status=Status.RUNNING))
        return (self.snapshot.claim,)

    def load(self, claims: Sequence[Claim]) -> tuple[Snapshot, ...]:
        return (self.snapshot,) if self.snapshot.state.status is Status.RUNNING else ()

    def extend(self, claims: Sequence[Claim], lease_until: datetime) -> None:
        return

    def is_work_ready(self, now: datetime) -> bool:
        return False

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
        self._record(before)
        self._replace(apply(snapshot.state, started))
        self.attempts[started.path] = started.attempt
        if effect is None:
            return None
        is_new = effect.key not in self._keys
        self._keys.add(effect.key)
        state = EffectState.INTENDED if is_new else EffectState.CONFIRMED
        return EffectRecord(state, is_new=is_new, provider_ref=None if is_new else "trial")

    def write(self, snapshot: Snapshot, entries: Sequence[Entry], *, after: ExecutionState, now: datetime) -> None:
        self._record(entries)
        self._replace(after)

    def outputs(self) -> Mapping[str, Mapping[str, object]]:
        """What each path gave."""
        return {path: step.output for path, step in self.snapshot.state.steps.items()}

    def _record(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        for entry in entries:
            if isinstance(entry, Parked | Released):
                self.resumes_at = entry.until

    def _replace(self, state: ExecutionState) -> None:
        self.snapshot = replace(self.snapshot, state=state)
