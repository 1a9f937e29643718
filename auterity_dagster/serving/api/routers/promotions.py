"""Promotions that wait for a second person."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime, BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories import promotions as stored
from auterity_dagster.storage.tables.specialisation import PromotionRow

router = DeclaredRouter(prefix="/neuroweaver/promotions", tags=["NeuroWeaver"])


class PromotionRead(BaseModel):
    """Who asked for which promotion and why, and who decided about it."""

    id: UUID
    scope: str
    from_digest: str | None
    to_digest: str
    reason: str
    state: str
    requested_by: UUID
    requested_at: datetime
    decided_by: UUID | None
    decided_at: datetime | None


@router.get(
    "", authentication="user_or_api_key", permission=Permission.MODEL_READ, body_limit_bytes=0, audit_class="none"
)
async def list_promotions(
    state: State,
    principal: CurrentPrincipal,
    before: AwareDatetime | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[PromotionRead]:
    """Return promotions, newest first; `before` is the `requested_at` that ended the page before."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        rows = await session.run_sync(stored.list_promotions, before=before, limit=limit)
        return [_read(row) for row in rows]


@router.post(
    "/{promotion_id}:approve",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(404, 409),
)
async def approve(state: State, principal: CurrentPrincipal, promotion_id: UUID) -> PromotionRead:
    """Agree, as somebody else than who asked: the artefact gets all of the traffic, if the champion did not change."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await session.run_sync(stored.approve_promotion, promotion_id, by=principal.id, now=state.clock.now())
        details = {"scope": row.scope, "to_digest": row.to_digest, "requested_by": str(row.requested_by)}
        subject = f"promotion/{row.id}"
        await audit.append(session, actor=principal, action="promotion.approved", subject=subject, details=details)
        return _read(row)


@router.post(
    "/{promotion_id}:reject",
    authentication="user",
    permission=Permission.TRAINING_OPERATE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(404, 409),
)
async def reject(state: State, principal: CurrentPrincipal, promotion_id: UUID) -> PromotionRead:
    """Turn a promotion down, or take your own back."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await session.run_sync(stored.reject_promotion, promotion_id, by=principal.id, now=state.clock.now())
        details = {"scope": row.scope, "to_digest": row.to_digest}
        subject = f"promotion/{row.id}"
        await audit.append(session, actor=principal, action="promotion.rejected", subject=subject, details=details)
        return _read(row)


def _read(row: PromotionRow) -> PromotionRead:
    return PromotionRead.model_validate(row, from_attributes=True)
