"""The proof that a worker still holds an execution: its row, locked, with the fence of the claim."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.ports import Claim
from auterity_dagster.errors import LeaseLost
from auterity_dagster.storage.tables.workflows import ExecutionRow


def hold(session: Session, claim: Claim, *, lease_until: datetime | None = None) -> None:
    """Lock the row and prove that the claim is the newest: from here to the commit nobody else can take it.

    With a `lease_until` the lease lasts at least that long from then on. Raises `LeaseLost`.
    """
    own = (
        ExecutionRow.organization_id == claim.organization_id,
        ExecutionRow.id == claim.execution_id,
        ExecutionRow.fence == claim.fence,
        ExecutionRow.state == "running",
    )
    if lease_until is None:
        held = session.scalar(select(ExecutionRow.id).where(*own).with_for_update())
    else:
        longer = func.greatest(ExecutionRow.ready_at, lease_until)
        held = session.scalar(update(ExecutionRow).where(*own).values(ready_at=longer).returning(ExecutionRow.id))
    if held is None:
        raise LeaseLost(f"execution {claim.execution_id} has a newer fence than {claim.fence}")


def lock(session: Session, organization_id: UUID, execution_id: UUID) -> None:
    """Lock an execution's row, whatever its state. Rows of one tree are locked from the top down."""
    session.execute(
        select(ExecutionRow.id)
        .where(ExecutionRow.organization_id == organization_id, ExecutionRow.id == execution_id)
        .with_for_update()
    )
