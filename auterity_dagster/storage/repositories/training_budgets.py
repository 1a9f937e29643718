"""What a training request may spend on machines, as a hard budget of the ledger that its holds must fit into."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.storage.tables.ledger import BudgetRow, BudgetWindowRow


def allowance(request_id: UUID) -> str:
    """Return what the holds of a request's run name, and what its budget binds."""
    return f"training/{request_id}"


def room(session: Session, organization_id: UUID, request_id: UUID, *, cap_nusd: NanoUsd) -> NanoUsd:
    """Return what is left of a request's budget, which is made with this cap where there is none yet."""
    value = allowance(request_id)
    new = insert(BudgetRow).values(
        organization_id=organization_id,
        id=uuid4(),
        name=f"Training run: {request_id}",
        scope=Scope.PURPOSE.value,
        value=value,
        period=Period.LIFETIME.value,
        time_zone="UTC",
        cap_nusd=cap_nusd,
        enforcement=Enforcement.HARD.value,
        alert_percents=[],
        version=1,
    )
    session.execute(new.on_conflict_do_nothing())
    used = func.coalesce(func.sum(BudgetWindowRow.settled_nusd + BudgetWindowRow.held_nusd), 0)
    query = (
        select(BudgetRow.cap_nusd, used)
        .outerjoin(BudgetWindowRow, BudgetWindowRow.budget_id == BudgetRow.id)
        .where(BudgetRow.scope == Scope.PURPOSE.value, BudgetRow.value == value)
        .group_by(BudgetRow.id, BudgetRow.cap_nusd)
    )
    cap, spent = session.execute(query).one()
    return max(0, int(cap) - int(spent))


def close(session: Session, request_id: UUID, *, now: datetime) -> None:
    """Put the budget of a request that has ended away; what was spent of it stays readable."""
    done = update(BudgetRow).where(BudgetRow.value == allowance(request_id), BudgetRow.archived_at.is_(None))
    session.execute(done.values(archived_at=now))
