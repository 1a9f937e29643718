"""The ledger as a file: opening balance, every entry, closing balance, account by account."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from fastapi import Query
from fastapi.responses import StreamingResponse

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.money import in_usd
from auterity_dagster.serving.api.csv_text import Cell, csv_text
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.account_statement import (
    Opening,
    Period,
    StatementLine,
    openings,
    statement_lines,
)

router = DeclaredRouter(tags=["Budgets"])
PAGE = 1_000
MAX_DAYS = 400
COLUMNS = (
    *("account", "kind", "time", "amount_nusd", "amount_usd", "balance_nusd", "balance_usd"),
    *("hold_id", "sequence", "request_id", "deployment_id", "dealership_id", "key_id", "purpose"),
)
EVERY_ACCOUNT = "every account"


@router.get(
    "/ledger/statement.csv",
    authentication="user_or_api_key",
    permission=Permission.BUDGET_READ,
    body_limit_bytes=0,
    audit_class="none",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The statement."}},
)
async def read_statement(
    state: State,
    principal: CurrentPrincipal,
    since: date,
    until: date,
    time_zone: Annotated[str, Query(max_length=64)] = "UTC",
) -> StreamingResponse:
    """Return every entry from the day `since` to the day `until`, both included, as CSV.

    Each account has a line `opening`, its entries in the order of time, each with the balance after it, and a line
    `closing`. The last line sums all closing balances, which is 0; a file without it was cut off. A period that
    reaches into the present ends a minute ago, so that nothing comes before its end later; its closing lines say when.
    """
    require_whole_organization(principal)
    wanted = _period(since, until, time_zone)
    async with state.database.begin(principal.organization_id) as session:
        period, opened = await openings(session, wanted)
    lines = _lines(state.database, principal.organization_id, period, opened)
    name = f"statement-{since.isoformat()}-{until.isoformat()}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"', "x-content-type-options": "nosniff"}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _period(since: date, until: date, time_zone: str) -> Period:
    if time_zone not in available_timezones():
        raise Invalid("time_zone is a time zone such as America/Chicago", field="time_zone")
    if not timedelta(0) <= until - since <= timedelta(days=MAX_DAYS):
        raise Invalid(f"A statement has 1 to {MAX_DAYS} days, and its end is not before its beginning.", field="since")
    if date.max in (since, until) or date.min in (since, until):
        raise Invalid("There is nothing at the ends of the calendar.", field="since")
    zone = ZoneInfo(time_zone)
    return Period(
        datetime.combine(since, time.min, zone).astimezone(UTC),
        datetime.combine(until + timedelta(days=1), time.min, zone).astimezone(UTC),
    )


async def _lines(
    database: Database, organization_id: UUID, period: Period, opened: list[Opening]
) -> AsyncGenerator[str]:
    """Yield the file a page at a time; no transaction is open while the caller reads."""
    yield csv_text([COLUMNS])
    closed: list[Opening] = []
    for opening in opened:
        yield csv_text([_balance("opening", opening, period.since)])
        balance, last = opening, None
        while True:
            async with database.begin(organization_id) as session:
                page = await statement_lines(session, opening.account, period, after=last, limit=PAGE)
            rows: list[tuple[Cell, ...]] = []
            for line in page:
                balance = replace(balance, balance_nusd=balance.balance_nusd + line.amount_nusd)
                rows.append(_entry(line, balance))
            yield csv_text(rows)
            if len(page) < PAGE:
                break
            last = page[-1]
        closed.append(balance)
        yield csv_text([_balance("closing", balance, period.until)])
    total = Opening(EVERY_ACCOUNT, sum(one.balance_nusd for one in closed))
    yield csv_text([_balance("closing", total, period.until)])


def _balance(kind: str, of: Opening, at: datetime) -> tuple[Cell, ...]:
    known = (of.account, kind, at.isoformat(), None, None, of.balance_nusd, in_usd(of.balance_nusd))
    return (*known, *(None for _ in range(len(COLUMNS) - len(known))))


def _entry(line: StatementLine, after: Opening) -> tuple[Cell, ...]:
    return (
        *(after.account, line.kind, line.at.isoformat(), line.amount_nusd, in_usd(line.amount_nusd)),
        *(after.balance_nusd, in_usd(after.balance_nusd)),
        *(str(line.hold_id), line.sequence, str(line.request_id), line.deployment_id),
        *("" if line.dealership_id is None else str(line.dealership_id), str(line.key_id), line.purpose),
    )
