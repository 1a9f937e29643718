"""Changes of budgets that wait for a second person: listed, approved by somebody else, or rejected."""

from typing import Annotated
from uuid import UUID

from fastapi import Header, Query
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.budget_documents import (
    BudgetRead,
    ProposalRead,
    budget_read,
    proposal_read,
    version_of,
)
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, budget_proposals
from auterity_dagster.storage.tables.ledger import BudgetProposalRow

router = DeclaredRouter(prefix="/budgets", tags=["Budgets"])


@router.get(
    "/{budget_id}/proposals",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_proposals(
    state: State, principal: CurrentPrincipal, budget_id: UUID, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[ProposalRead]:
    """Return what was proposed for a budget, the newest first."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        return [proposal_read(row) for row in await budget_proposals.proposals(session, budget_id, limit=limit)]


@router.post(
    "/{budget_id}/proposals/{proposal_id}:approve",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(409,),
)
async def approve_proposal(
    state: State,
    principal: CurrentPrincipal,
    budget_id: UUID,
    proposal_id: UUID,
    if_match: Annotated[str, Header()],
) -> BudgetRead:
    """Change the budget as somebody else proposed; `If-Match` carries the version of the budget that was read."""
    require_whole_organization(principal)
    version = version_of(if_match)
    async with state.database.begin(principal.organization_id) as session:
        proposal, budget = await budget_proposals.approve(
            session, budget_id, proposal_id, version=version, by=principal.id
        )
        await audit_proposal(session, principal, "budget.change_approved", proposal)
        return budget_read(budget)


@router.post(
    "/{budget_id}/proposals/{proposal_id}:reject",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=0,
    audit_class="change",
    problems=(409,),
)
async def reject_proposal(
    state: State, principal: CurrentPrincipal, budget_id: UUID, proposal_id: UUID
) -> ProposalRead:
    """Leave the budget as it is; whoever proposed the change may take it back like this."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        proposal = await budget_proposals.reject(session, budget_id, proposal_id, by=principal.id)
        await audit_proposal(session, principal, "budget.change_rejected", proposal)
        return proposal_read(proposal)


async def audit_proposal(session: AsyncSession, principal: Principal, action: str, proposal: BudgetProposalRow) -> None:
    """Write into the audit log what became of a proposal, in the transaction that did it."""
    details = {
        "proposal_id": str(proposal.id),
        "cap_nusd": proposal.cap_nusd,
        "version": proposal.version,
        "proposed_by": str(proposal.proposed_by),
    }
    await audit.append(session, actor=principal, action=action, subject=f"budget/{proposal.budget_id}", details=details)
