"""What was used and spent: the ledger's sums, open and unknown holds, usage per deployment."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.money import in_usd
from auterity_dagster.relaycore.pricing import cost_elsewhere
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.steering import price_list
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import usage
from auterity_dagster.storage.repositories.usage import UsageFilter

router = DeclaredRouter(tags=["Budgets"])


class LedgerRead(BaseModel):
    """The ledger's sums. `entries_sum_nusd` is 0; `payable_nusd` is what each price key's provider is owed."""

    entries_sum_nusd: int
    spend_nusd: int
    suspense_nusd: int
    held_nusd: int
    open_holds: int
    unknown_holds: int
    max_over_nusd: int | None
    overage_nusd: int
    payable_nusd: dict[str, int]


class HoldRead(BaseModel):
    """One hold."""

    id: UUID
    request_id: UUID
    attempt: int
    deployment_id: str
    amount_nusd: int
    cost_nusd: int | None
    state: str
    created_at: datetime
    expires_at: datetime


class DeploymentUsageRead(BaseModel):
    """One deployment's attempts; `unreported` is how many of them came without a usage report.

    `elsewhere_nusd` is what the same tokens would have cost at the price that was asked about.
    """

    deployment_id: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nusd: int
    cost_usd: str
    unreported: int
    elsewhere_nusd: int | None


class UsageRead(BaseModel):
    """Usage per deployment, and in all."""

    deployments: list[DeploymentUsageRead]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int
    elsewhere_price_key: str | None
    elsewhere_nusd: int | None


@router.get(
    "/ledger/summary",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def ledger_summary(state: State, principal: CurrentPrincipal) -> LedgerRead:
    """Return the sums of the organization's ledger."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        summary = await usage.ledger_summary(session)
    return LedgerRead.model_validate(summary, from_attributes=True)


@router.get(
    "/holds",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_holds(
    state: State,
    principal: CurrentPrincipal,
    in_state: Annotated[Literal["held", "settled", "voided", "unknown"], Query(alias="state")] = "held",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[HoldRead]:
    """Return holds of one state, the newest first."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        found = await usage.holds(session, state=in_state, limit=limit)
    return [HoldRead.model_validate(hold, from_attributes=True) for hold in found]


@router.get(
    "/usage/summary",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def usage_summary(
    state: State,
    principal: CurrentPrincipal,
    since: date | None = None,
    until: date | None = None,
    price_key: str | None = None,
) -> UsageRead:
    """Return usage per deployment, of the caller's dealerships; with `price_key` also its cost at that price now."""
    wanted = UsageFilter(since=since, until=until, dealership_ids=principal.dealership_ids)
    price = None
    if price_key is not None:
        price = (await price_list(state, principal.organization_id)).in_force(price_key, state.clock.now())
    async with state.database.begin(principal.organization_id) as session:
        rows = await usage.usage_by_deployment(session, wanted)
        counts = await usage.token_counts(session, wanted) if price is not None else ()
    elsewhere: dict[str, int] = {}
    if price is not None:
        elsewhere = {row.deployment_id: 0 for row in rows}
        for deployment_id, used, times in counts:
            elsewhere[deployment_id] += cost_elsewhere(used, price) * times
    return UsageRead(
        deployments=[
            DeploymentUsageRead(
                **asdict(row), cost_usd=in_usd(row.cost_nusd), elsewhere_nusd=elsewhere.get(row.deployment_id)
            )
            for row in rows
        ],
        requests=sum(row.requests for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost_nusd=sum(row.cost_nusd for row in rows),
        elsewhere_price_key=price_key,
        elsewhere_nusd=sum(elsewhere.values()) if price is not None else None,
    )
