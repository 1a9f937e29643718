"""Usage by day: rolled up once a day, read together with what is not rolled up yet, always per organization."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Result, Select, case, delete, func, insert, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, Session

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.latency_histogram import STEPS_PER_DOUBLING
from auterity_dagster.storage.repositories.kept_answers import CACHE_HIT
from auterity_dagster.storage.repositories.usage import UsageFilter
from auterity_dagster.storage.tables.analytics import UsageDayRow
from auterity_dagster.storage.tables.ledger import UsageRow

Counts = dict[int, int]


@dataclass(slots=True)
class UsageGroup:
    """What the attempts of one group came to; latencies are counts by bucket of `latency_histogram`."""

    day: date
    task: str
    deployment_id: str
    dealership_id: UUID | None
    purpose: str
    attempts: int = 0
    ok: int = 0
    unreported: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nusd: NanoUsd = 0
    latencies: Counts = field(default_factory=dict[int, int])
    first_tokens: Counts = field(default_factory=dict[int, int])
    outcomes: dict[str, int] = field(default_factory=dict[str, int])


def organizations_with_usage(session: Session, *, since: date, until: date) -> Sequence[UUID]:
    """Return whose usage there is, over all organizations: ids only."""
    return list(session.scalars(select(func.organizations_with_usage(since, until))))


def roll_up(session: Session, organization_id: UUID, day: date) -> int:
    """Write one day of an organization anew, in place of what was there; return how many groups it has."""
    groups = _folded(_rows(session.execute(_counted(UsageRow.day == day))))
    session.execute(delete(UsageDayRow).where(UsageDayRow.day == day))
    if groups:
        session.execute(
            insert(UsageDayRow), [{"organization_id": organization_id, **asdict(group)} for group in groups]
        )
    return len(groups)


async def usage_groups(session: AsyncSession, wanted: UsageFilter) -> Sequence[UsageGroup]:
    """Return the groups of a time, of these dealerships; a day that is not rolled up is added up on the way."""
    rolled = await session.scalars(select(UsageDayRow).where(*_conditions(UsageDayRow, wanted)))
    fresh = await session.execute(_not_rolled_up(wanted))
    return [*(_stored(row) for row in rolled), *_folded(_rows(fresh))]


def usage_groups_blocking(session: Session, wanted: UsageFilter) -> Sequence[UsageGroup]:
    """The same for synchronous code."""
    rolled = session.scalars(select(UsageDayRow).where(*_conditions(UsageDayRow, wanted)))
    fresh = session.execute(_not_rolled_up(wanted))
    return [*(_stored(row) for row in rolled), *_folded(_rows(fresh))]


def _not_rolled_up(wanted: UsageFilter) -> Select[*tuple[Any, ...]]:
    days = select(UsageDayRow.day)
    return _counted(UsageRow.day.not_in(days), *_conditions(UsageRow, wanted))


def _counted(*conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Attempts counted as finely as the histograms need."""
    keys = (
        UsageRow.day,
        func.coalesce(UsageRow.task, ""),
        UsageRow.deployment_id,
        UsageRow.dealership_id,
        UsageRow.purpose,
        UsageRow.outcome,
        _bucket(UsageRow.latency_ms),
        _bucket(UsageRow.first_token_ms),
    )
    sums = (UsageRow.prompt_tokens, UsageRow.cache_read_tokens, UsageRow.completion_tokens, UsageRow.cost_nusd)
    return (
        select(
            *keys,
            func.count(),
            func.count().filter(UsageRow.prompt_tokens.is_(None)),
            *(func.coalesce(func.sum(column), 0) for column in sums),
        )
        .where(*conditions)
        .group_by(*keys)
        .order_by(*keys)
    )


def _bucket(column: InstrumentedAttribute[int | None]) -> ColumnElement[int]:
    """The bucket as of `latency_histogram.bucket_of`; NULL where nothing was measured, which `greatest` would hide."""
    bucket = func.floor(func.ln(func.greatest(column, 1)) / func.ln(2) * STEPS_PER_DOUBLING)
    return sql_cast(case((column.is_not(None), bucket)), Integer)


def _rows(found: Result[Any]) -> Sequence[Sequence[Any]]:
    return [tuple(row) for row in found]


def _folded(rows: Iterable[Sequence[Any]]) -> list[UsageGroup]:
    groups: dict[tuple[object, ...], UsageGroup] = {}
    for row in rows:
        day, task, deployment_id, dealership_id, purpose, outcome, latency, first_token, count, unreported = row[:10]
        key = (day, task, deployment_id, dealership_id, purpose)
        group = groups.setdefault(key, UsageGroup(day, task, deployment_id, dealership_id, purpose))
        group.attempts += count
        group.ok += count if outcome in ("ok", CACHE_HIT) else 0
        group.unreported += unreported
        group.prompt_tokens += int(row[10])
        group.cached_tokens += int(row[11])
        group.completion_tokens += int(row[12])
        group.cost_nusd += int(row[13])
        _add(group.latencies, latency, count)
        _add(group.first_tokens, first_token, count)
        group.outcomes[outcome] = group.outcomes.get(outcome, 0) + count
    return list(groups.values())


def _add(counts: Counts, bucket: int | None, count: int) -> None:
    if bucket is not None:
        counts[bucket] = counts.get(bucket, 0) + count


def _stored(row: UsageDayRow) -> UsageGroup:
    values = {one.name: getattr(row, one.name) for one in fields(UsageGroup)}
    for name in ("latencies", "first_tokens"):
        values[name] = {int(bucket): count for bucket, count in cast(dict[str, int], values[name]).items()}
    return UsageGroup(**values)


def _conditions(table: type[UsageRow] | type[UsageDayRow], wanted: UsageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(table.day >= wanted.since)
    if wanted.until is not None:
        conditions.append(table.day <= wanted.until)
    if wanted.dealership_ids is not None:
        conditions.append(table.dealership_id.in_(wanted.dealership_ids))
    return conditions
