"""The ledger of what left the house: one row a key, intended before the call."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.ports import Effect, EffectRecord, EffectResolved, EffectState
from auterity_dagster.storage.tables.workflows import SideEffectRow


def intend(
    session: Session, organization_id: UUID, execution_id: UUID, path: str, effect: Effect, now: datetime
) -> EffectRecord:
    """Write the intention, or return what an earlier worker wrote under this key."""
    is_new = session.scalar(
        insert(SideEffectRow)
        .values(
            organization_id=organization_id,
            id=uuid4(),
            key=effect.key,
            execution_id=execution_id,
            path=path,
            kind=effect.kind,
            state=EffectState.INTENDED,
            request=dict(effect.request),
            intended_at=now,
        )
        .on_conflict_do_nothing()
        .returning(SideEffectRow.id)
    )
    if is_new is not None:
        return EffectRecord(EffectState.INTENDED, is_new=True, provider_ref=None)
    row = session.scalars(
        select(SideEffectRow).where(SideEffectRow.organization_id == organization_id, SideEffectRow.key == effect.key)
    ).one()
    return EffectRecord(EffectState(row.state), is_new=False, provider_ref=row.provider_ref)


def resolve(session: Session, organization_id: UUID, resolved: EffectResolved, now: datetime) -> None:
    """Record what became of an effect; one that is confirmed or failed stays so."""
    session.execute(
        update(SideEffectRow)
        .where(
            SideEffectRow.organization_id == organization_id,
            SideEffectRow.key == resolved.key,
            SideEffectRow.state.in_((EffectState.INTENDED, EffectState.UNKNOWN)),
        )
        .values(
            state=resolved.state,
            provider_ref=resolved.provider_ref,
            error=None if resolved.error is None else {"code": resolved.error.code, "message": resolved.error.message},
            resolved_at=None if resolved.state is EffectState.UNKNOWN else now,
        )
    )
