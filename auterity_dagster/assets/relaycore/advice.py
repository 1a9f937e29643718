"""Recommendations of the day for every organization, and what those that were applied have really saved."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import dagster as dg
from sqlalchemy.orm import Session

from auterity_dagster.assets.checks import checked
from auterity_dagster.assets.relaycore.analytics import GROUP, usage_day
from auterity_dagster.clock import SystemClock
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.quality import Quality, QualityEvidence, posterior
from auterity_dagster.relaycore.recommendation import DayOfUse, Option, patch_of, realised, recommend
from auterity_dagster.relaycore.steering_file import load_policy, read_policy
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories import recommendations as stored
from auterity_dagster.storage.repositories.prices import own_prices_blocking
from auterity_dagster.storage.repositories.routing import quality_evidence
from auterity_dagster.storage.repositories.steering_policies import active_policy_text_blocking
from auterity_dagster.storage.repositories.usage import UsageFilter
from auterity_dagster.storage.repositories.usage_days import (
    UsageGroup,
    organizations_with_usage,
    usage_groups_blocking,
)

PERIOD_DAYS = 30
PRIORITY = 900
Days = Mapping[tuple[str, str], tuple[DayOfUse, ...]]
"""Days of use by task and deployment, in order."""


@dataclass(frozen=True, slots=True)
class Market:
    """What an organization may choose among: each deployment's digest and price; `floor` is what is good enough."""

    digests: Mapping[str, str]
    prices: Mapping[str, Price]
    floor: float


@dg.asset(
    group_name=GROUP,
    deps=[dg.AssetDep(usage_day, partition_mapping=dg.LastPartitionMapping())],
    kinds={"postgres"},
    check_specs=[dg.AssetCheckSpec("every_saving_is_sure", asset="recommendations")],
)
def recommendations(installation: InstallationResource, database: DatabaseResource) -> dg.MaterializeResult:
    """What would surely save money at a quality that is surely good enough; compared later with what happened."""
    now = SystemClock().now()
    config_dir = Path(installation.config_dir)
    until = now.date() - timedelta(days=1)
    since = until - timedelta(days=PERIOD_DAYS)
    opened, sure = 0, True
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = organizations_with_usage(session, since=since, until=until)
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                days = days_of_use(usage_groups_blocking(session, UsageFilter(since, until, None)))
                found = advise(session, organization_id, days, market_of(session, config_dir, now=now), now=now)
                opened += len(found)
                sure = sure and all(low > 0 for low in found)
                measure(session, days)
    return dg.MaterializeResult(
        metadata={"organizations": len(organizations), "open": opened},
        check_results=[checked("every_saving_is_sure", sure, open=opened)],
    )


def market_of(session: Session, config_dir: Path, *, now: datetime) -> Market:
    """Read what the gateways read: the organization's own policy or the platform's, the list with its own prices."""
    prices = load_prices(config_dir / "prices.yaml").with_own(own_prices_blocking(session)).all_in_force(now)
    text = active_policy_text_blocking(session)
    if text is not None:
        policy = read_policy(text, source="the organization's policy")
    else:
        policy = load_policy(config_dir / "steering.yaml", prices=prices)
    deployments = [one.deployment() for one in policy.deployments]
    floor = policy.objectives[policy.defaults.objective].subject_to.quality_lcb
    return Market(
        digests={one.id: one.artefact_digest for one in deployments},
        prices={one.id: prices[one.price_key] for one in deployments if one.price_key in prices},
        floor=floor or 0.0,
    )


def advise(session: Session, organization_id: UUID, days: Days, market: Market, *, now: datetime) -> list[int]:
    """Write the recommendations of one organization; return the lower bounds of what they save."""
    known = _known_quality(quality_evidence(session), now=now)
    kept: list[tuple[str, str, str]] = []
    lows: list[int] = []
    for task in sorted({task for task, _ in days}):
        options = [_option(task, name, days, market, known) for name in market.prices]
        current = max(options, key=lambda one: (one.requests, one.deployment_id))
        found = recommend(task, current, options, floor=market.floor, seed=0)
        if found is not None:
            patch = patch_of(found, priority=PRIORITY)
            stored.put_recommendation(session, organization_id, found, patch=patch, now=now)
            kept.append((task, found.from_deployment, found.to_deployment))
            lows.append(found.saving_low_nusd)
    stored.expire_recommendations(session, now=now, kept=kept)
    return lows


def measure(session: Session, days: Days) -> None:
    """Put what applied recommendations have saved beside what was expected of them."""
    for row in stored.applied_recommendations(session):
        assert row.applied_at is not None
        at = row.applied_at.date()
        of_task = _merged(one for (task, _), found in days.items() if task == row.task for one in found)
        before = [one for one in of_task if one.day < at]
        after = [one for one in of_task if one.day > at]
        found = realised(before, after, seed=0)
        if found is not None:
            saving, low, high = found
            row.realised = {
                "saving_nusd": round(saving),
                "saving_low_nusd": round(low),
                "saving_high_nusd": round(high),
                "days": len(after),
                "until": after[-1].day.isoformat(),
            }


def days_of_use(groups: Iterable[UsageGroup]) -> Days:
    """Arrange usage by task and deployment."""
    found: dict[tuple[str, str], list[DayOfUse]] = defaultdict(list)
    for group in groups:
        found[group.task, group.deployment_id].append(
            DayOfUse(group.day, group.attempts, group.prompt_tokens, group.completion_tokens, group.cost_nusd)
        )
    return {key: tuple(_merged(days)) for key, days in found.items()}


def _merged(days: Iterable[DayOfUse]) -> list[DayOfUse]:
    by_day: dict[date, DayOfUse] = {}
    for one in days:
        before = by_day.get(one.day, DayOfUse(one.day, 0, 0, 0, 0))
        by_day[one.day] = DayOfUse(
            day=one.day,
            requests=before.requests + one.requests,
            prompt_tokens=before.prompt_tokens + one.prompt_tokens,
            completion_tokens=before.completion_tokens + one.completion_tokens,
            cost_nusd=before.cost_nusd + one.cost_nusd,
        )
    return [by_day[day] for day in sorted(by_day)]


def _option(task: str, name: str, days: Days, market: Market, known: Mapping[tuple[str, str], Quality]) -> Option:
    quality = known.get((task, market.digests[name]), Quality())
    return Option(name, market.prices[name], quality, days.get((task, name), ()))


def _known_quality(evidence: Iterable[QualityEvidence], *, now: datetime) -> Mapping[tuple[str, str], Quality]:
    found: dict[tuple[str, str], list[QualityEvidence]] = defaultdict(list)
    for one in evidence:
        found[one.task, one.artefact_digest].append(one)
    return {key: posterior(group, now=now) for key, group in found.items()}
