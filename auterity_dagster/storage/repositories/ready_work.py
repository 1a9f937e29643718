"""What waits for a worker, over all organizations: counts only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

_READY = text("SELECT job, lane, ready FROM ready_work(:now) ORDER BY job, lane")


@dataclass(frozen=True, slots=True)
class ReadyWork:
    """How many executions of one job and lane could be claimed now."""

    job: str
    lane: str
    executions: int


def ready_work(session: Session, now: datetime) -> tuple[ReadyWork, ...]:
    """Return one entry for each job and lane with work."""
    rows: Any = session.execute(_READY, {"now": now})
    return tuple(ReadyWork(row.job, row.lane, row.ready) for row in rows)
