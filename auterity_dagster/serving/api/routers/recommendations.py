"""What would save money: read with its evidence, applied by a person, taken back, and held against what happened."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories import recommendations as stored
from auterity_dagster.storage.repositories.recommendations import State as Stage
from auterity_dagster.storage.tables.analytics import RecommendationRow

router = DeclaredRouter(prefix="/recommendations", tags=["Analytics"])


class RecommendationRead(BaseModel):
    """Savings are a month's, with a 90 % interval; `quality_change_low` is what quality changes by at worst (5 %).

    `patch` is what to add to the steering policy; `realised` is what was measured after it was applied.
    """

    id: UUID
    task: str
    from_deployment: str
    to_deployment: str
    evidence: dict[str, Any]
    patch: dict[str, Any]
    saving_nusd: int
    saving_low_nusd: int
    saving_high_nusd: int
    quality_change_low: float
    state: str
    created_at: datetime
    expires_at: datetime
    applied_at: datetime | None
    rolled_back_at: datetime | None
    realised: dict[str, Any] | None


@router.get(
    "",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_recommendations(
    state: State,
    principal: CurrentPrincipal,
    stage: Annotated[Stage | None, Query(alias="state")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[RecommendationRead]:
    """Return recommendations, the largest sure saving first."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        rows = await stored.list_recommendations(session, state=stage, limit=limit)
    return [_read(row) for row in rows]


@router.post(
    "/{recommendation_id}:apply",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=0,
    audit_class="change",
)
async def apply(state: State, principal: CurrentPrincipal, recommendation_id: UUID) -> RecommendationRead:
    """Say that its patch is in the policy now: from today on its saving is measured."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await stored.apply_recommendation(session, recommendation_id, by=principal.id)
        await _audit(session, principal, "recommendation.applied", row)
        return _read(row)


@router.post(
    "/{recommendation_id}:rollback",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=0,
    audit_class="change",
)
async def roll_back(state: State, principal: CurrentPrincipal, recommendation_id: UUID) -> RecommendationRead:
    """Say that its patch is out of the policy again; nothing is measured any more."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        row = await stored.roll_back_recommendation(session, recommendation_id, by=principal.id)
        await _audit(session, principal, "recommendation.rolled_back", row)
        return _read(row)


async def _audit(session: AsyncSession, principal: Principal, action: str, row: RecommendationRow) -> None:
    details = {"task": row.task, "to_deployment": row.to_deployment}
    await audit.append(session, actor=principal, action=action, subject=f"recommendation/{row.id}", details=details)


def _read(row: RecommendationRow) -> RecommendationRead:
    return RecommendationRead.model_validate(row, from_attributes=True)
