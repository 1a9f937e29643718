"""How fast leads are answered, how far executions come, what AI costs per message, and which executions are stuck."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.day_range import day_range
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories.stuck_executions import Trouble, stuck
from auterity_dagster.storage.repositories.workflow_day_pages import DayFilter, funnel_days, response_days

router = DeclaredRouter(prefix="/workflow-analytics", tags=["Analytics"])
STUCK_AFTER = timedelta(minutes=5)


class ResponseTimesRead(BaseModel):
    """One dealership's leads of one of its own days. Seconds run from arrival to the first message that left."""

    day: date
    dealership_id: UUID
    leads: int
    answered: int
    within_5_min: int
    p50_s: float | None
    p90_s: float | None


class FunnelRead(BaseModel):
    """One workflow's executions of one day. `cost_per_sent_nusd` is absent where nothing was sent."""

    day: date
    dealership_id: UUID
    workflow: str
    received: int
    drafted: int
    reviewed: int
    approved: int
    sent: int
    succeeded: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int
    cost_per_sent_nusd: int | None


class StuckRead(BaseModel):
    """What is wrong with an execution, and since when."""

    execution_id: UUID
    dealership_id: UUID
    trouble: Trouble
    since: datetime


@router.get(
    "/response-times",
    authentication="user_or_api_key",
    permission=Permission.EXECUTION_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_response_times(
    state: State, principal: CurrentPrincipal, since: date | None = None, until: date | None = None
) -> list[ResponseTimesRead]:
    """Return how fast leads were answered, by default in the last 30 days; days are added up once a day."""
    async with state.database.begin(principal.organization_id) as session:
        rows = await response_days(session, _wanted(state, principal, since, until))
    return [ResponseTimesRead.model_validate(row, from_attributes=True) for row in rows]


@router.get(
    "/funnel",
    authentication="user_or_api_key",
    permission=Permission.EXECUTION_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_funnel(
    state: State, principal: CurrentPrincipal, since: date | None = None, until: date | None = None
) -> list[FunnelRead]:
    """Return how far executions came and what their AI calls cost, by default in the last 30 days."""
    async with state.database.begin(principal.organization_id) as session:
        rows = await funnel_days(session, _wanted(state, principal, since, until))
    return [
        FunnelRead(
            day=row.day,
            dealership_id=row.dealership_id,
            workflow=row.workflow_key,
            received=row.received,
            drafted=row.drafted,
            reviewed=row.reviewed,
            approved=row.approved,
            sent=row.sent,
            succeeded=row.succeeded,
            failed=row.failed,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cost_nusd=row.cost_nusd,
            cost_per_sent_nusd=-(-row.cost_nusd // row.sent) if row.sent else None,
        )
        for row in rows
    ]


@router.get(
    "/stuck",
    authentication="user_or_api_key",
    permission=Permission.EXECUTION_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_stuck(state: State, principal: CurrentPrincipal) -> list[StuckRead]:
    """Return executions overdue for five minutes, effects of unknown end and late approvals, the oldest first."""
    async with state.database.begin(principal.organization_id) as session:
        found = await stuck(session, state.clock.now() - STUCK_AFTER)
    seen: Sequence[UUID] | None = None if principal.dealership_ids is None else tuple(principal.dealership_ids)
    return [
        StuckRead(execution_id=one.execution_id, dealership_id=one.dealership_id, trouble=one.trouble, since=one.since)
        for one in found
        if seen is None or one.dealership_id in seen
    ]


def _wanted(state: ApiState, principal: Principal, since: date | None, until: date | None) -> DayFilter:
    first, last = day_range(state.clock, since, until)
    return DayFilter(first, last, principal.dealership_ids)
