"""The end of a child is told to the step that waits for it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from auterity_dagster.storage.repositories.waits import wake
from auterity_dagster.storage.tables.workflows import ExecutionRow, WaitRow


def tell_parent(
    session: Session, organization_id: UUID, child_id: UUID, *, result: Mapping[str, Any], now: datetime
) -> None:
    """Let the end of a child end its parent's wait; the parent's row is locked already, before the child's.

    `result` has `state`, `outputs` and, of one that failed, `error`.
    """
    own = (ExecutionRow.organization_id == organization_id, ExecutionRow.id == child_id)
    found = session.execute(
        select(ExecutionRow.parent_id, ExecutionRow.parent_path).where(*own, ExecutionRow.is_awaited)
    ).one_or_none()
    if found is None:
        return
    told = session.scalar(
        update(WaitRow)
        .where(
            WaitRow.organization_id == organization_id,
            WaitRow.execution_id == found.parent_id,
            WaitRow.path == found.parent_path,
            WaitRow.state == "open",
        )
        .values(state="event", event={"execution_id": str(child_id), **result}, closed_at=now)
        .returning(WaitRow.id)
    )
    if told is not None:
        wake(session, organization_id, [found.parent_id], now)
