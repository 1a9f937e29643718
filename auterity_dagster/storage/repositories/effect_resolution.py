"""A person says what became of an effect that nobody could know: a replay then knows whether to do it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.ports import EffectState
from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.tables.workflows import ExecutionRow, SideEffectRow

Outcome = Literal["confirmed", "failed"]


async def resolve(
    session: AsyncSession, principal: Principal, effect_id: UUID, outcome: Outcome, *, now: datetime
) -> SideEffectRow:
    """Settle an unknown effect: `confirmed` is never done again, `failed` is done again by a replay.

    Raises `NotFound`, also for a dealership the principal does not see, and `Conflict` for one that is not unknown.
    """
    dealership_id = await session.scalar(
        select(ExecutionRow.dealership_id)
        .join(
            SideEffectRow,
            (SideEffectRow.organization_id == ExecutionRow.organization_id)
            & (SideEffectRow.execution_id == ExecutionRow.id),
        )
        .where(SideEffectRow.id == effect_id)
    )
    if dealership_id is None or not principal.may_see(dealership_id):
        raise NotFound("there is no such effect")
    # One guarded UPDATE: two persons who answer at once do not overwrite each other.
    settled = await session.scalar(
        update(SideEffectRow)
        .where(SideEffectRow.id == effect_id, SideEffectRow.state == EffectState.UNKNOWN)
        .values(state=outcome, resolved_at=now)
        .returning(SideEffectRow)
        .execution_options(populate_existing=True)
    )
    if settled is None:
        state = await session.scalar(select(SideEffectRow.state).where(SideEffectRow.id == effect_id))
        raise Conflict(
            f"the effect is {state}, only an unknown one is resolved by hand", code="effect_known", state=state
        )
    await audit.append(
        session,
        actor=principal,
        action="effect.resolved",
        subject=f"side_effect/{effect_id}",
        details={"execution_id": str(settled.execution_id), "path": settled.path, "outcome": outcome},
    )
    return settled
