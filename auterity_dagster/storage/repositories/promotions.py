"""Promotions to all of the traffic: one person asks, another agrees, and the switch is the agreement's transaction."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound, NotPermitted
from auterity_dagster.neuroweaver.switching import ServingPhase, Switch
from auterity_dagster.storage.repositories import serving_state
from auterity_dagster.storage.tables.specialisation import PromotionRow


def request_promotion(
    session: Session, *, organization_id: UUID, change: Switch, scope: str, by: UUID, now: datetime
) -> PromotionRow:
    """Ask for a promotion. Raises `Conflict` while another of the scope waits."""
    added = session.scalar(
        insert(PromotionRow)
        .values(
            organization_id=organization_id,
            id=uuid4(),
            scope=scope,
            from_digest=change.expected_digest,
            to_digest=change.to_digest,
            reason=change.reason,
            state="open",
            requested_by=by,
            requested_at=now,
        )
        .on_conflict_do_nothing()
        .returning(PromotionRow)
    )
    if added is None:
        raise Conflict("Another promotion of this scope waits for a decision.", code="promotion_open")
    return added


def approve_promotion(session: Session, promotion_id: UUID, *, by: UUID, now: datetime) -> PromotionRow:
    """Agree to a promotion and switch. Raises `NotPermitted` for the person who asked, `Conflict` where it is too late.

    What the person who asked saw must still be what the scope serves.
    """
    row = find_promotion(session, promotion_id)
    if row.requested_by == by:
        raise NotPermitted("Somebody else has to agree to a promotion.", code="second_person_needed")
    decided = _decide(session, row, state="approved", by=by, now=now)
    change = Switch(row.from_digest, row.to_digest, ServingPhase.CHAMPION, 100, row.reason, actor=by)
    evidence = [f"promotion/{row.id}", f"requested by {row.requested_by}"]
    entry = serving_state.Entry(row.organization_id, row.scope, evidence, f"promotion:{row.id}")
    serving_state.switch(session, change, entry)
    return decided


def reject_promotion(session: Session, promotion_id: UUID, *, by: UUID, now: datetime) -> PromotionRow:
    """Turn a promotion down, or take one's own back."""
    return _decide(session, find_promotion(session, promotion_id), state="rejected", by=by, now=now)


def list_promotions(session: Session, *, before: datetime | None, limit: int) -> Sequence[PromotionRow]:
    """Return promotions, newest first."""
    query = select(PromotionRow)
    if before is not None:
        query = query.where(PromotionRow.requested_at < before)
    ordered = query.order_by(PromotionRow.requested_at.desc(), PromotionRow.id)
    return session.scalars(ordered.limit(limit)).all()


def find_promotion(session: Session, promotion_id: UUID) -> PromotionRow:
    """Return one promotion. Raises `NotFound`."""
    row = session.scalar(select(PromotionRow).where(PromotionRow.id == promotion_id))
    if row is None:
        raise NotFound("There is no such promotion.")
    return row


def _decide(session: Session, row: PromotionRow, *, state: str, by: UUID, now: datetime) -> PromotionRow:
    decided = session.scalar(
        update(PromotionRow)
        .where(PromotionRow.id == row.id, PromotionRow.state == "open")
        .values(state=state, decided_by=by, decided_at=now)
        .returning(PromotionRow)
    )
    if decided is None:
        raise Conflict(f"This promotion is {row.state} already.", code="promotion_state", state=row.state)
    return decided
