"""How many executions of an organization may be open at once."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from auterity_dagster.errors import RateLimited
from auterity_dagster.storage.repositories.cancelling import OPEN
from auterity_dagster.storage.tables.workflows import ExecutionRow

OPEN_LIMIT = 50_000


def require_room(session: Session, organization_id: UUID, *, wanted: int, limit: int = OPEN_LIMIT) -> None:
    """Raise `RateLimited` if the organization would have more than `limit` open executions.

    Leads are not asked for: a customer who writes is never turned away.
    """
    counted = (
        select(ExecutionRow.id)
        .where(ExecutionRow.organization_id == organization_id, ExecutionRow.state.in_(OPEN))
        .limit(limit)
        .subquery()
    )
    found = session.scalars(select(func.count()).select_from(counted)).one()
    if found + wanted > limit:
        raise RateLimited(
            f"{found} executions are open, {wanted} more would pass the limit of {limit}: "
            "wait for some to end, or cancel what is not needed",
            code="too_many_executions",
            open=found,
            limit=limit,
        )
