"""The journal in PostgreSQL: claims, snapshots, and results that only the newest claim may write."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text, tuple_, update
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.execution import FINAL, ExecutionState, StepStarted
from auterity_dagster.automatrix.expression import ExpressionEngine
from auterity_dagster.automatrix.ports import Claim, Effect, EffectRecord, Entry, Snapshot
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import effects, journal_entries, journal_state
from auterity_dagster.storage.repositories.claims import hold, lock
from auterity_dagster.storage.repositories.journal_write import JournalWrite
from auterity_dagster.storage.repositories.ready_work import ready_work
from auterity_dagster.storage.tables.workflows import ExecutionRow, WorkflowVersionRow

_CLAIM = text(
    "SELECT organization_id, execution_id, fence "
    "FROM claim_executions(:job, :lane, :batch, :run_id, :now, :lease_until)"
)


class PostgresJournal:
    """`automatrix.ports.Journal` over a database; compiled versions are kept for the life of the process."""

    def __init__(self, database: BlockingDatabase, expressions: ExpressionEngine) -> None:
        self._database = database
        self._expressions = expressions
        self._compiled: dict[str, CompiledWorkflow] = {}

    def claim(
        self, *, job: str, lane: str, batch: int, run_id: str, now: datetime, lease_until: datetime
    ) -> tuple[Claim, ...]:
        with self._database.begin_without_organization() as session:
            rows = session.execute(
                _CLAIM,
                {"job": job, "lane": lane, "batch": batch, "run_id": run_id, "now": now, "lease_until": lease_until},
            )
            return tuple(Claim(row.organization_id, row.execution_id, row.fence) for row in rows)

    def load(self, claims: Sequence[Claim]) -> tuple[Snapshot, ...]:
        snapshots: list[Snapshot] = []
        for organization_id, own in _by_organization(claims).items():
            with self._database.begin(organization_id) as session:
                snapshots += self._load(session, own)
        return tuple(snapshots)

    def extend(self, claims: Sequence[Claim], lease_until: datetime) -> None:
        for organization_id, own in _by_organization(claims).items():
            with self._database.begin(organization_id) as session:
                session.execute(
                    update(ExecutionRow)
                    .where(
                        ExecutionRow.organization_id == organization_id,
                        tuple_(ExecutionRow.id, ExecutionRow.fence).in_(
                            [(claim.execution_id, claim.fence) for claim in own]
                        ),
                        ExecutionRow.state == "running",
                    )
                    .values(ready_at=func.greatest(ExecutionRow.ready_at, lease_until))
                )

    def is_work_ready(self, now: datetime) -> bool:
        with self._database.begin_without_organization() as session:
            return bool(ready_work(session, now))

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
        claim = snapshot.claim
        with self._database.begin(claim.organization_id) as session:
            hold(session, claim, lease_until=lease_until)
            written = JournalWrite(session, snapshot, after=snapshot.state, now=now)
            for entry in before:
                journal_entries.record(written, entry)
            journal_entries.begin_attempt(written, started)
            written.finish()
            if effect is None:
                return None
            return effects.intend(session, claim.organization_id, claim.execution_id, started.path, effect, now)

    def write(self, snapshot: Snapshot, entries: Sequence[Entry], *, after: ExecutionState, now: datetime) -> None:
        with self._database.begin(snapshot.claim.organization_id) as session:
            if snapshot.parent_id is not None and after.status in FINAL:
                # Its end ends the parent's wait: rows of a tree are locked from the top down.
                lock(session, snapshot.claim.organization_id, snapshot.parent_id)
            hold(session, snapshot.claim)
            written = JournalWrite(session, snapshot, after=after, now=now)
            for entry in entries:
                journal_entries.record(written, entry)
            written.finish()

    def _load(self, session: Session, claims: Sequence[Claim]) -> list[Snapshot]:
        fences: Mapping[UUID, Claim] = {claim.execution_id: claim for claim in claims}
        rows = session.execute(
            select(ExecutionRow, WorkflowVersionRow.digest)
            .join(
                WorkflowVersionRow,
                (WorkflowVersionRow.organization_id == ExecutionRow.organization_id)
                & (WorkflowVersionRow.id == ExecutionRow.version_id),
            )
            .where(ExecutionRow.id.in_(fences), ExecutionRow.state == "running")
        ).all()
        held = [(row, digest) for row, digest in rows if row.fence == fences[row.id].fence]
        workflows = {row.version_id: self._workflow(session, row.version_id, digest) for row, digest in held}
        return journal_state.snapshots(
            session, [(row, fences[row.id], workflows[row.version_id]) for row, _digest in held]
        )

    def _workflow(self, session: Session, version_id: UUID, digest: str) -> CompiledWorkflow:
        if digest not in self._compiled:
            document = session.scalars(
                select(WorkflowVersionRow.definition).where(WorkflowVersionRow.id == version_id)
            ).one()
            self._compiled[digest] = compile_document(document, self._expressions)
        return self._compiled[digest]


def _by_organization(claims: Sequence[Claim]) -> Mapping[UUID, list[Claim]]:
    found: dict[UUID, list[Claim]] = defaultdict(list)
    for claim in claims:
        found[claim.organization_id].append(claim)
    return found
