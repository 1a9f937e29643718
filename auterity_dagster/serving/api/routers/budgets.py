"""Budgets: listed with their windows, made, and their caps changed; they belong to the whole organization."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.money import in_usd, nano_usd
from auterity_dagster.relaycore.budget import ALERT_PERCENTS, EVERY_VALUE, Enforcement, Period, Scope
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, budgets
from auterity_dagster.storage.repositories.budgets import NewBudget
from auterity_dagster.storage.tables.ledger import BudgetRow, BudgetWindowRow

router = DeclaredRouter(prefix="/budgets", tags=["Budgets"])
BODY_LIMIT_BYTES = 4_096
Percents = Annotated[tuple[Annotated[int, Field(ge=1, le=200)], ...], Field(max_length=10)]
Dollars = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$")]


class BudgetAdd(BaseModel):
    """A new budget. `value` is the id or name that it binds; `*` gives each of the scope's values its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=120, strip_whitespace=True)]
    scope: Scope
    value: Annotated[str, StringConstraints(min_length=1, max_length=200)] = EVERY_VALUE
    period: Period
    time_zone: Annotated[str, StringConstraints(max_length=64)] = "UTC"
    cap_usd: Dollars
    enforcement: Enforcement = Enforcement.HARD
    alert_percents: Percents = ALERT_PERCENTS


class BudgetChange(BaseModel):
    """What to change: the cap in dollars, the shares of it at which people are told, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cap_usd: Dollars | None = None
    alert_percents: Percents | None = None


class BudgetRead(BaseModel):
    """A budget; `version` goes into `If-Match` to change it."""

    id: UUID
    name: str
    scope: Scope
    value: str
    period: Period
    time_zone: str
    cap_usd: str
    cap_nusd: int
    enforcement: Enforcement
    alert_percents: list[int]
    version: int


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
        return [_read(budget) for budget in await budgets.budgets(session)]


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
        return _read(budget)


@router.patch(
    "/{budget_id}",
    authentication="user",
    permission=Permission.BUDGET_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
)
async def change_budget(
    state: State, principal: CurrentPrincipal, budget_id: UUID, write: BudgetChange, if_match: Annotated[str, Header()]
) -> BudgetRead:
    """Change a budget's cap or alerts, in its open windows too; `If-Match` carries the version that was read."""
    require_whole_organization(principal)
    if not if_match.strip('"').isdecimal():
        raise Invalid("If-Match carries the budget's version", field="if-match")
    async with state.database.begin(principal.organization_id) as session:
        before = await budgets.read_budget(session, budget_id)
        budget = await budgets.change_budget(
            session,
            budget_id,
            cap_nusd=before.cap_nusd if write.cap_usd is None else nano_usd(write.cap_usd),
            alert_percents=before.alert_percents if write.alert_percents is None else write.alert_percents,
            version=int(if_match.strip('"')),
        )
        await audit.append(
            session,
            actor=principal,
            action="budget.changed",
            subject=f"budget/{budget_id}",
            details={
                "cap_nusd": budget.cap_nusd,
                "alert_percents": budget.alert_percents,
                "version": budget.version,
            },
        )
        return _read(budget)


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


def _read(budget: BudgetRow) -> BudgetRead:
    return BudgetRead(
        id=budget.id,
        name=budget.name,
        scope=Scope(budget.scope),
        value=budget.value,
        period=Period(budget.period),
        time_zone=budget.time_zone,
        cap_usd=in_usd(budget.cap_nusd),
        cap_nusd=budget.cap_nusd,
        enforcement=Enforcement(budget.enforcement),
        alert_percents=budget.alert_percents,
        version=budget.version,
    )


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
