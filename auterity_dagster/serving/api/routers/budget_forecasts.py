"""What a budget's open windows will have spent when they close, with an interval; or why nobody can say."""

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.money import in_usd
from auterity_dagster.relaycore.budget import Period, Scope
from auterity_dagster.relaycore.forecast import NoForecast, OpenWindow, forecast, grain_of
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories.budget_history import Spending, open_windows, spending
from auterity_dagster.storage.tables.ledger import BudgetRow, BudgetWindowRow

router = DeclaredRouter(prefix="/budgets", tags=["Budgets"])
METHOD = (
    "What is settled is certain. The rest of the present {grain} and each {grain} after it is drawn 1,000 times from "
    "the whole {grain}s of the last {look_back}, like from like ({alike}) where each was seen three times; the past "
    "itself is resampled for each draw. Expected is the mean, low and high are the 5 % and 95 % quantiles. One {grain} "
    "is taken not to depend on the one before, open holds are not counted, and calls that a hard budget refused are "
    "not part of the past."
)
WORDS = {
    "hour": {"grain": "hour", "look_back": "14 days", "alike": "hour of the day"},
    "day": {"grain": "day", "look_back": "56 days", "alike": "weekday"},
}


class ForecastRead(BaseModel):
    """One open window's forecast, with a 90 % interval; `why_none` says why there is none, and then it has no figures.

    `share_over_cap` is the share of the draws that end above the cap; `known_from` is the first call that counts.
    """

    window_id: UUID
    value: str
    opens_at: datetime
    closes_at: datetime | None
    cap_nusd: int
    settled_nusd: int
    held_nusd: int
    known_from: datetime | None
    method: str
    why_none: str | None
    low_nusd: int | None
    expected_nusd: int | None
    high_nusd: int | None
    expected_usd: str | None
    share_over_cap: float | None


@router.get(
    "/{budget_id}/forecast",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_forecasts(
    state: State,
    principal: CurrentPrincipal,
    budget_id: UUID,
    value: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=20)] = 10,
) -> list[ForecastRead]:
    """Return what open windows will have spent at their end: of one value, or those that have spent most so far."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        budget, windows, now = await open_windows(session, budget_id, value=value, limit=limit)
        scope, grain, zone = Scope(budget.scope), grain_of(Period(budget.period)), budget.time_zone
        pasts = [
            await spending(session, scope, window.value, grain=grain, time_zone=zone, now=now) for window in windows
        ]
    pairs = list(zip(windows, pasts, strict=True))
    return await asyncio.to_thread(lambda: [_read(budget, window, past, now) for window, past in pairs])


def _read(budget: BudgetRow, row: BudgetWindowRow, past: Spending, now: datetime) -> ForecastRead:
    period = Period(budget.period)
    window = OpenWindow(
        seed=row.id,
        period=period,
        time_zone=budget.time_zone,
        closes_at=row.closes_at,
        settled_nusd=row.settled_nusd,
        cap_nusd=row.cap_nusd,
    )
    found = forecast(window, past.by_beginning, known_from=past.known_from, now=now)
    said = None if isinstance(found, NoForecast) else found
    return ForecastRead(
        window_id=row.id,
        value=row.value,
        opens_at=row.opens_at,
        closes_at=row.closes_at,
        cap_nusd=row.cap_nusd,
        settled_nusd=row.settled_nusd,
        held_nusd=row.held_nusd,
        known_from=past.known_from,
        method=METHOD.format(**WORDS[grain_of(period)]),
        why_none=found.reason if isinstance(found, NoForecast) else None,
        low_nusd=said and said.low_nusd,
        expected_nusd=said and said.expected_nusd,
        high_nusd=said and said.high_nusd,
        expected_usd=said and in_usd(said.expected_nusd),
        share_over_cap=said and said.share_over_cap,
    )
