"""Comparisons of the ledger with providers' bills: what was corrected, and what stays to be explained."""

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories.reconciliations import reconciliations

router = DeclaredRouter(tags=["Budgets"])


class ReconciliationRead(BaseModel):
    """One comparison. `report` lists the first 1,000 of the `differences`; nothing was booked for them."""

    id: UUID
    provider: str
    since: date
    until: date
    bill_digest: str
    lines: int
    matched_lines: int
    billed_nusd: int
    corrections: int
    adjusted_nusd: int
    differences: int
    report: list[dict[str, Any]]
    created_at: datetime


@router.get(
    "/reconciliations",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_reconciliations(
    state: State, principal: CurrentPrincipal, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[ReconciliationRead]:
    """Return the newest comparisons."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        rows = await session.run_sync(reconciliations, limit=limit)
    return [ReconciliationRead.model_validate(row, from_attributes=True) for row in rows]
