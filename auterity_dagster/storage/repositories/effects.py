"""The ledger of what left the house: one row a key, intended before the call."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compliance.decision import DeferUntil
from auterity_dagster.automatrix.ports import Effect, EffectRecord, EffectResolved, EffectState
from auterity_dagster.storage.repositories import outbound_messages
from auterity_dagster.storage.tables.workflows import SideEffectRow

RETRYABLE = frozenset({"timeout", "connection", "rate_limited", "provider_error", "overloaded"})
"""What a step may be tried again for."""


def intend(
    session: Session, organization_id: UUID, execution_id: UUID, path: str, effect: Effect, now: datetime
) -> EffectRecord:
    """Write the intention, or return what an earlier worker wrote under this key.

    One that failed for a passing reason, or in an execution that was replayed, is intended again. A message is
    decided about each time, because an opt-out may have come since; one that has to wait leaves no intention.
    """
    row = _row(session, organization_id, effect.key)
    permission = None
    if effect.message is not None and (row is None or row.state != EffectState.CONFIRMED):
        permission = outbound_messages.permit(
            session, effect.message, key=effect.key, execution_id=execution_id, now=now
        )
    is_deferred = permission is not None and isinstance(permission.decision, DeferUntil)
    is_new = row is None
    if row is None and not is_deferred:
        is_new = _insert(session, organization_id, execution_id, path, effect, now)
        row = None if is_new else _row(session, organization_id, effect.key)
    if row is None:
        return EffectRecord(EffectState.INTENDED, is_new=is_new, provider_ref=None, permission=permission)
    is_passing = (row.error or {}).get("code") in RETRYABLE
    if row.state == EffectState.FAILED and (is_passing or row.execution_id != execution_id):
        # Nothing had left the house: this attempt is as good as the first.
        again = {"execution_id": execution_id, "request": dict(effect.request), "intended_at": now}
        if not is_deferred:
            session.execute(
                update(SideEffectRow)
                .where(SideEffectRow.organization_id == organization_id, SideEffectRow.id == row.id)
                .values(state=EffectState.INTENDED, error=None, resolved_at=None, **again)
            )
        return EffectRecord(EffectState.INTENDED, is_new=True, provider_ref=None, permission=permission)
    return EffectRecord(EffectState(row.state), is_new=False, provider_ref=row.provider_ref, permission=permission)


def _row(session: Session, organization_id: UUID, key: str) -> SideEffectRow | None:
    which = select(SideEffectRow).where(SideEffectRow.organization_id == organization_id, SideEffectRow.key == key)
    return session.scalars(which).one_or_none()


def _insert(
    session: Session, organization_id: UUID, execution_id: UUID, path: str, effect: Effect, now: datetime
) -> bool:
    """Write the row; False if another worker did meanwhile."""
    made = session.scalar(
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
    return made is not None


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
    outbound_messages.resolve(session, resolved)
