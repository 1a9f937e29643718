"""What an organization used and what the ledger holds: sums over usage rows, entries, holds and windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.storage.tables.ledger import BudgetWindowRow, EntryRow, HoldRow, UsageRow

PAYABLE = "payable:"
"""Accounts of what is owed to a provider begin so; the price key follows."""


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Days from `since` to `until`, both included; None: no limit. `dealership_ids` None: all of them."""

    since: date | None
    until: date | None
    dealership_ids: frozenset[UUID] | None


@dataclass(frozen=True, slots=True)
class DeploymentUsage:
    """What one deployment's attempts came to."""

    deployment_id: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_nusd: NanoUsd
    unreported: int


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """The ledger at one moment. `entries_sum_nusd` is 0, or the ledger is broken; `max_over_nusd` is never above 0."""

    entries_sum_nusd: NanoUsd
    spend_nusd: NanoUsd
    suspense_nusd: NanoUsd
    held_nusd: NanoUsd
    open_holds: int
    unknown_holds: int
    max_over_nusd: NanoUsd | None
    overage_nusd: NanoUsd
    payable_nusd: dict[str, NanoUsd]


async def usage_by_deployment(session: AsyncSession, wanted: UsageFilter) -> Sequence[DeploymentUsage]:
    """Return one row per deployment, the dearest first. `unreported` counts attempts without a usage report."""
    cost_nusd = func.coalesce(func.sum(UsageRow.cost_nusd), 0)
    rows = await session.execute(
        select(
            UsageRow.deployment_id,
            func.count(),
            func.coalesce(func.sum(UsageRow.prompt_tokens), 0),
            func.coalesce(func.sum(UsageRow.cache_read_tokens), 0),
            func.coalesce(func.sum(UsageRow.completion_tokens), 0),
            cost_nusd,
            func.count().filter(UsageRow.prompt_tokens.is_(None)),
        )
        .where(*_conditions(wanted))
        .group_by(UsageRow.deployment_id)
        .order_by(cost_nusd.desc(), UsageRow.deployment_id)
    )
    return [DeploymentUsage(row[0], *(int(value or 0) for value in row[1:])) for row in rows]


async def token_counts(session: AsyncSession, wanted: UsageFilter) -> Sequence[tuple[str, Usage, int]]:
    """Return each deployment's distinct usages and how often they occurred, to be priced exactly elsewhere."""
    classes = (
        UsageRow.prompt_tokens,
        UsageRow.completion_tokens,
        UsageRow.cache_read_tokens,
        UsageRow.cache_write_5m_tokens,
        UsageRow.cache_write_1h_tokens,
    )
    rows = await session.execute(
        select(UsageRow.deployment_id, *classes, func.count())
        .where(UsageRow.prompt_tokens.is_not(None), *_conditions(wanted))
        .group_by(UsageRow.deployment_id, *classes)
    )
    return [(row[0], Usage(*(value or 0 for value in row[1:-1])), row[-1]) for row in rows]


async def ledger_summary(session: AsyncSession) -> LedgerSummary:
    """Return the organization's ledger in one look per table, in the caller's transaction."""
    accounts = await session.execute(
        select(EntryRow.account, func.sum(EntryRow.amount_nusd)).group_by(EntryRow.account)
    )
    balances = {account: int(amount) for account, amount in accounts}
    over = BudgetWindowRow.settled_nusd + BudgetWindowRow.held_nusd - BudgetWindowRow.cap_nusd
    windows = await session.execute(
        select(func.max(over).filter(BudgetWindowRow.is_hard), func.coalesce(func.sum(BudgetWindowRow.overage_nusd), 0))
    )
    max_over_nusd, overage_nusd = windows.one()
    holds = await session.execute(
        select(HoldRow.state, func.count(), func.sum(HoldRow.amount_nusd))
        .where(HoldRow.state.in_(("held", "unknown")))
        .group_by(HoldRow.state)
    )
    by_state = {state: (count, int(amount)) for state, count, amount in holds}
    return LedgerSummary(
        entries_sum_nusd=sum(balances.values()),
        spend_nusd=balances.get("spend", 0),
        suspense_nusd=balances.get("suspense", 0),
        held_nusd=by_state.get("held", (0, 0))[1],
        open_holds=by_state.get("held", (0, 0))[0],
        unknown_holds=by_state.get("unknown", (0, 0))[0],
        max_over_nusd=max_over_nusd,
        overage_nusd=int(overage_nusd),
        payable_nusd={
            account.removeprefix(PAYABLE): -amount
            for account, amount in sorted(balances.items())
            if account.startswith(PAYABLE)
        },
    )


async def holds(session: AsyncSession, *, state: str, limit: int) -> Sequence[HoldRow]:
    """Return holds of one state, the newest first."""
    newest = select(HoldRow).where(HoldRow.state == state).order_by(HoldRow.created_at.desc(), HoldRow.id)
    return (await session.scalars(newest.limit(limit))).all()


def _conditions(wanted: UsageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(UsageRow.day >= wanted.since)
    if wanted.until is not None:
        conditions.append(UsageRow.day <= wanted.until)
    if wanted.dealership_ids is not None:
        conditions.append(UsageRow.dealership_id.in_(wanted.dealership_ids))
    return conditions
