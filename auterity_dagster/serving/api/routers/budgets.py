"""Budgets: listed with their windows, made, and their caps changed; they belong to the whole organization."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Response
from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.money import in_usd, nano_usd
from auterity_dagster.relaycore.budget import Enforcement, needs_second_person
from auterity_dagster.serving.api.budget_documents import (
    BudgetAdd,
    BudgetChange,
    BudgetRead,
    ProposalRead,
    budget_read,
    proposal_read,
    version_of,
)
from auterity_dagster.serving.api.routers.budget_proposals import audit_proposal
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, budget_proposals, budgets
from auterity_dagster.storage.repositories.budgets import NewBudget
from auterity_dagster.storage.tables.ledger import BudgetWindowRow

router = DeclaredRouter(prefix="/budgets", tags=["Budgets"])
BODY_LIMIT_BYTES = 4_096


class WindowRead(BaseModel):
    """One period of a budget. `left_usd` may be negative: a bill above the hold, or a lowered cap."""

    id: UUID
    value: str
    opens_at: datetime
    closes_at: datetime | None
    cap_nusd: int
    held_nusd: int
    settled_nusd: int
    overage_nusd: int
    alerted_percent: int
    left_usd: str


@router.get(
    "", authentication="user_or_api_key", permission=Permission.BUDGET_READ, body_limit_bytes=0, audit_class="none"
)
async def list_budgets(state: State, principal: CurrentPrincipal) -> list[BudgetRead]:
    """Return the organization's budgets by name."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return [budget_read(budget) for budget in await budgets.budgets(session)]


@router.post(
    "",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    status_code=201,
    problems=(409,),
)
async def add_budget(state: State, principal: CurrentPrincipal, write: BudgetAdd) -> BudgetRead:
    """Make a budget; it binds from the next call on."""
    require_whole_organization(principal)
    wanted = NewBudget(
        name=write.name,
        scope=write.scope,
        value=write.value,
        period=write.period,
        time_zone=write.time_zone,
        cap_nusd=nano_usd(write.cap_usd),
        enforcement=write.enforcement,
        alert_percents=write.alert_percents,
    )
    async with state.database.begin(principal.organization_id) as session:
        budget = await budgets.create_budget(session, principal.organization_id, wanted)
        details = {"cap_nusd": budget.cap_nusd, "scope": budget.scope, "enforcement": budget.enforcement}
        await audit.append(
            session, actor=principal, action="budget.added", subject=f"budget/{budget.id}", details=details
        )
        return budget_read(budget)


@router.patch(
    "/{budget_id}",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
    responses={202: {"model": ProposalRead, "description": "It waits for a second person."}},
)
async def change_budget(
    state: State,
    principal: CurrentPrincipal,
    response: Response,
    budget_id: UUID,
    write: BudgetChange,
    if_match: Annotated[str, Header()],
) -> BudgetRead | ProposalRead:
    """Change a budget's cap or alerts, in its open windows too; `If-Match` carries the version that was read.

    A hard cap that rises above what one person may decide (`AUTERITY_BUDGET_ALONE_USD`) waits for another: 202.
    """
    require_whole_organization(principal)
    version = version_of(if_match)
    async with state.database.begin(principal.organization_id) as session:
        before = await budgets.read_budget(session, budget_id)
        cap_nusd = before.cap_nusd if write.cap_usd is None else nano_usd(write.cap_usd)
        percents = before.alert_percents if write.alert_percents is None else write.alert_percents
        if before.version == version and needs_second_person(
            Enforcement(before.enforcement),
            before_nusd=before.cap_nusd,
            after_nusd=cap_nusd,
            alone_nusd=state.budget_alone_nusd,
        ):
            proposal = await budget_proposals.propose(
                session, before, cap_nusd=cap_nusd, alert_percents=percents, by=principal.id
            )
            await audit_proposal(session, principal, "budget.change_proposed", proposal)
            response.status_code = 202
            return proposal_read(proposal)
        budget = await budgets.change_budget(
            session, budget_id, cap_nusd=cap_nusd, alert_percents=percents, version=version
        )
        await audit.append(
            session,
            actor=principal,
            action="budget.changed",
            subject=f"budget/{budget_id}",
            details={"cap_nusd": budget.cap_nusd, "alert_percents": budget.alert_percents, "version": budget.version},
        )
        return budget_read(budget)


@router.get(
    "/{budget_id}/windows",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_windows(
    state: State, principal: CurrentPrincipal, budget_id: UUID, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[WindowRead]:
    """Return a budget's windows, the newest first."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return [_read_window(window) for window in await budgets.windows(session, budget_id, limit=limit)]


def _read_window(window: BudgetWindowRow) -> WindowRead:
    return WindowRead(
        id=window.id,
        value=window.value,
        opens_at=window.opens_at,
        closes_at=window.closes_at,
        cap_nusd=window.cap_nusd,
        held_nusd=window.held_nusd,
        settled_nusd=window.settled_nusd,
        overage_nusd=window.overage_nusd,
        alerted_percent=window.alerted_percent,
        left_usd=in_usd(window.cap_nusd - window.held_nusd - window.settled_nusd),
    )
