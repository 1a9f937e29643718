"""The ledger's entries by account and time: what a statement of a period shows, read a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.money import NanoUsd
from auterity_dagster.storage.tables.ledger import EntryRow, HoldRow

SETTLED_AFTER = timedelta(minutes=1)
"""A booking carries the time at which its transaction began: a minute later every such transaction has ended."""


@dataclass(frozen=True, slots=True)
class Period:
    """From an instant to another, which is not part of it."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Opening:
    """An account that has entries before the period's end, and what it stood at when the period began."""

    account: str
    balance_nusd: NanoUsd


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry, with what its hold says of the call."""

    at: datetime
    hold_id: UUID
    sequence: int
    kind: str
    amount_nusd: NanoUsd
    request_id: UUID
    deployment_id: str
    dealership_id: UUID | None
    key_id: UUID
    purpose: str


async def openings(session: AsyncSession, wanted: Period) -> tuple[Period, list[Opening]]:
    """Return the period, ended where entries may still come, and its accounts by name with their opening balances."""
    complete_until = (await session.execute(select(func.now() - SETTLED_AFTER))).scalar_one()
    period = Period(wanted.since, max(min(wanted.until, complete_until), wanted.since))
    before = func.coalesce(func.sum(EntryRow.amount_nusd).filter(EntryRow.created_at < period.since), 0)
    rows = await session.execute(
        select(EntryRow.account, before)
        .where(EntryRow.created_at < period.until)
        .group_by(EntryRow.account)
        .order_by(EntryRow.account)
    )
    return period, [Opening(account, int(balance)) for account, balance in rows]


async def statement_lines(
    session: AsyncSession, account: str, period: Period, *, after: StatementLine | None, limit: int
) -> Sequence[StatementLine]:
    """Return the account's entries of the period in the order of time, those that follow `after`."""
    place = (EntryRow.created_at, EntryRow.hold_id, EntryRow.sequence)
    query = (
        select(
            *(*place, EntryRow.kind, EntryRow.amount_nusd, HoldRow.request_id, HoldRow.deployment_id),
            *(HoldRow.dealership_id, HoldRow.key_id, HoldRow.purpose),
        )
        .join(HoldRow, (HoldRow.organization_id == EntryRow.organization_id) & (HoldRow.id == EntryRow.hold_id))
        .where(EntryRow.account == account, EntryRow.created_at >= period.since, EntryRow.created_at < period.until)
        .order_by(*place)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(*place) > (after.at, after.hold_id, after.sequence))
    return [StatementLine(*row) for row in await session.execute(query)]
