"""Start one execution for each subject of a batch; a subject that the batch started already starts nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.event import Event
from auterity_dagster.errors import NotFound
from auterity_dagster.storage.repositories.audiences import Subject
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.room import require_room
from auterity_dagster.storage.repositories.triggering import Lane, active_workflow, start_execution


@dataclass(frozen=True, slots=True)
class Batch:
    """Subjects of one dealership; `key` names the batch, so that repeating it is harmless."""

    key: str
    type: str
    dealership_id: UUID
    subjects: Sequence[Subject]
    lane: Lane


async def start_batch(session: AsyncSession, workflow_key: str, batch: Batch, *, now: datetime) -> tuple[UUID, ...]:
    """Insert the executions, in the caller's transaction.

    Raises `NotFound` without an active workflow of that key, `RateLimited` if too many executions are open, and
    `ExpressionFailed` if the workflow's key cannot be read from a subject's data.
    """
    return await session.run_sync(_start, workflow_key, batch, now)


def _start(session: Session, workflow_key: str, batch: Batch, now: datetime) -> tuple[UUID, ...]:
    active = active_workflow(session, workflow_key)
    if active is None:
        raise NotFound(f"there is no active workflow {workflow_key!r}")
    require_room(session, organization_of(session), wanted=len(batch.subjects))
    started: list[UUID] = []
    for one in batch.subjects:
        dedupe_key = f"{batch.key}:{one.subject}"
        event = Event(
            id=uuid4(),
            type=batch.type,
            organization_id=organization_of(session),
            dealership_id=batch.dealership_id,
            subject=one.subject,
            time=now,
            dedupe_key=dedupe_key,
            data={"flags": [], **one.data, "dedupe_key": dedupe_key},
        )
        execution_id = start_execution(session, active, event, lane=batch.lane, ready_at=now)
        if execution_id is not None:
            started.append(execution_id)
    return tuple(started)
