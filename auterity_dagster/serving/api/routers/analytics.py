"""What was spent, how fast and how well it was answered, and what it would have cost elsewhere."""

from collections import defaultdict
from datetime import date, datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.relaycore.pricing import cost_elsewhere
from auterity_dagster.relaycore.quality import EVALUATION, QualityEvidence, label_weight, posterior
from auterity_dagster.serving.api.day_range import day_range
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.api.steering import price_list
from auterity_dagster.serving.api.usage_table import By, UsageRead, usage_rows
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import usage
from auterity_dagster.storage.repositories.routing import routing_state
from auterity_dagster.storage.repositories.usage import UsageFilter
from auterity_dagster.storage.repositories.usage_days import usage_groups

router = DeclaredRouter(tags=["Analytics"])


class SourceRead(BaseModel):
    """What one source says: how many items or labels it has, what they still count, and their mean."""

    source: str
    items: float
    weight: float
    mean_score: float


class QualityRead(BaseModel):
    """How good a model is at a task: the posterior's mean, and its 5 % and 95 % quantiles."""

    task: str
    artefact_digest: str
    mean: float
    lower_bound: float
    upper_bound: float
    sources: list[SourceRead]


class SavingRead(BaseModel):
    """What one deployment's attempts cost, and what the same tokens would have cost at the baseline's price."""

    deployment_id: str
    attempts: int
    cost_nusd: int
    baseline_nusd: int
    saved_nusd: int


class SavingsRead(BaseModel):
    """Savings against a stated baseline; attempts without a usage report are left out on both sides."""

    baseline_price_key: str
    since: date
    until: date
    deployments: list[SavingRead]
    cost_nusd: int
    baseline_nusd: int
    saved_nusd: int


@router.get(
    "/usage",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_usage(
    state: State,
    principal: CurrentPrincipal,
    since: date | None = None,
    until: date | None = None,
    by: Annotated[list[By], Query(max_length=5)] = ["task", "deployment_id"],  # noqa: B006 - FastAPI copies it
) -> list[UsageRead]:
    """Return spend, tokens, errors and latencies, by default of the last 30 days, side by side as asked."""
    wanted = _wanted(state, principal, since, until)
    async with state.database.begin(principal.organization_id) as session:
        groups = await usage_groups(session, wanted)
    return usage_rows(groups, list(dict.fromkeys(by)))


@router.get(
    "/analytics/quality",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_quality(state: State, principal: CurrentPrincipal, task: str | None = None) -> list[QualityRead]:
    """Return what is known of every model at every task, source by source."""
    require_whole_organization(principal)
    async with state.database.begin(principal.organization_id) as session:
        evidence = (await routing_state(session)).evidence
    now = state.clock.now()
    groups: dict[tuple[str, str], list[QualityEvidence]] = defaultdict(list)
    for one in evidence:
        if task is None or one.task == task:
            groups[one.task, one.artefact_digest].append(one)
    return [_quality(key, found, now=now) for key, found in sorted(groups.items())]


@router.get(
    "/analytics/savings",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_savings(
    state: State,
    principal: CurrentPrincipal,
    baseline_price_key: Annotated[str, Query(max_length=200)],
    since: date | None = None,
    until: date | None = None,
) -> SavingsRead:
    """Return what was saved against sending the same tokens to one model, priced as of now."""
    wanted = _wanted(state, principal, since, until)
    listed = await price_list(state, principal.organization_id)
    price = listed.in_force(baseline_price_key, state.clock.now())
    async with state.database.begin(principal.organization_id) as session:
        rows = await usage.usage_by_deployment(session, wanted)
        counts = await usage.token_counts(session, wanted)
    elsewhere: dict[str, int] = defaultdict(int)
    for deployment_id, used, times in counts:
        elsewhere[deployment_id] += cost_elsewhere(used, price) * times
    found = [
        SavingRead(
            deployment_id=row.deployment_id,
            attempts=row.requests - row.unreported,
            cost_nusd=row.cost_nusd,
            baseline_nusd=elsewhere[row.deployment_id],
            saved_nusd=elsewhere[row.deployment_id] - row.cost_nusd,
        )
        for row in rows
    ]
    assert wanted.since is not None
    assert wanted.until is not None
    return SavingsRead(
        baseline_price_key=baseline_price_key,
        since=wanted.since,
        until=wanted.until,
        deployments=found,
        cost_nusd=sum(one.cost_nusd for one in found),
        baseline_nusd=sum(one.baseline_nusd for one in found),
        saved_nusd=sum(one.saved_nusd for one in found),
    )


def _wanted(state: ApiState, principal: Principal, since: date | None, until: date | None) -> UsageFilter:
    first, last = day_range(state.clock, since, until)
    return UsageFilter(since=first, until=last, dealership_ids=principal.dealership_ids)


def _quality(key: tuple[str, str], evidence: list[QualityEvidence], *, now: datetime) -> QualityRead:
    known = posterior(evidence, now=now)
    return QualityRead(
        task=key[0],
        artefact_digest=key[1],
        mean=known.mean,
        lower_bound=known.lower_bound,
        upper_bound=known.upper_bound,
        sources=[
            SourceRead(
                source=one.source,
                items=one.items,
                weight=one.items if one.source == EVALUATION else label_weight(one, now=now),
                mean_score=one.mean_score,
            )
            for one in sorted(evidence, key=lambda one: one.source)
        ],
    )
