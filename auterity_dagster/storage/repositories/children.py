"""Executions that a step of another one started: one for a step."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.ports import ChildCall, Claim, Snapshot
from auterity_dagster.automatrix.workflow import CalledTrigger, WorkflowDefinition
from auterity_dagster.errors import Conflict, Invalid, NotFound
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.claims import hold
from auterity_dagster.storage.repositories.room import require_room
from auterity_dagster.storage.repositories.triggering import Lane, Parent, active_workflow, start_execution
from auterity_dagster.storage.tables.workflows import ExecutionRow, WaitRow

CALLED = "workflow.called"


class PostgresChildren:
    """`automatrix.ports.Children` over a database."""

    def __init__(self, database: BlockingDatabase) -> None:
        self._database = database

    def start(self, snapshot: Snapshot, path: str, call: ChildCall, *, now: datetime) -> UUID:
        claim = snapshot.claim
        with self._database.begin(claim.organization_id) as session:
            hold(session, claim)
            started = session.scalar(_own(claim.organization_id, claim.execution_id, path))
            child_id = started or _start(session, snapshot, path, call, now)
            if call.is_awaited and started is None:
                _arm(session, snapshot, path, now)
            return child_id


def _own(organization_id: UUID, parent_id: UUID, path: str) -> Any:
    return select(ExecutionRow.id).where(
        ExecutionRow.organization_id == organization_id,
        ExecutionRow.parent_id == parent_id,
        ExecutionRow.parent_path == path,
    )


def _start(session: Session, snapshot: Snapshot, path: str, call: ChildCall, now: datetime) -> UUID:
    require_room(session, snapshot.claim.organization_id, wanted=1)
    active = active_workflow(session, call.workflow)
    if active is None:
        raise NotFound(f"there is no active workflow {call.workflow!r}")
    if not _is_callable(active.compiled.definition):
        raise Invalid(f"workflow {call.workflow!r} is not made to be called: it has no trigger of type sub_workflow")
    claim = snapshot.claim
    lane = session.scalars(
        select(ExecutionRow.lane).where(
            ExecutionRow.organization_id == claim.organization_id, ExecutionRow.id == claim.execution_id
        )
    ).one()
    event = Event(
        id=uuid5(claim.execution_id, path),
        type=CALLED,
        organization_id=claim.organization_id,
        dealership_id=snapshot.dealership_id,
        subject=snapshot.subject,
        time=now,
        dedupe_key=f"sub:{claim.execution_id}:{path}",
        data=call.data,
        findings=call.findings,
        depth=snapshot.depth + 1,
    )
    parent = Parent(claim.execution_id, path, call.is_awaited, _first_child(session, claim, path))
    child_id = start_execution(session, active, event, lane=cast("Lane", lane), ready_at=now, parent=parent)
    if child_id is None:
        raise Conflict(f"another execution holds the concurrency key of workflow {call.workflow!r}")
    return child_id


def _first_child(session: Session, claim: Claim, path: str) -> UUID | None:
    """Return the execution that this step started before it was replayed: the new one keeps its keys."""
    replayed: UUID | None = claim.execution_id
    while replayed is not None:
        replayed = session.scalar(
            select(ExecutionRow.replay_of).where(
                ExecutionRow.organization_id == claim.organization_id, ExecutionRow.id == replayed
            )
        )
        if replayed is not None:
            found = session.execute(
                select(ExecutionRow.id, ExecutionRow.root_id).where(
                    ExecutionRow.organization_id == claim.organization_id,
                    ExecutionRow.parent_id == replayed,
                    ExecutionRow.parent_path == path,
                )
            ).one_or_none()
            if found is not None:
                return found.root_id or found.id
    return None


def _arm(session: Session, snapshot: Snapshot, path: str, now: datetime) -> None:
    session.execute(
        insert(WaitRow).values(
            organization_id=snapshot.claim.organization_id,
            id=uuid4(),
            dealership_id=snapshot.dealership_id,
            execution_id=snapshot.claim.execution_id,
            path=path,
            event_type=None,
            match_key="",
            match={},
            state="open",
            expires_at=snapshot.state.deadline_at,
            created_at=now,
        )
    )


def _is_callable(definition: WorkflowDefinition) -> bool:
    return any(isinstance(one, CalledTrigger) and one.type == "sub_workflow" for one in definition.triggers)
