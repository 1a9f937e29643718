"""Which window an instant falls into: periods begin by the budget's own clock on the wall, summer time included."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.relaycore.budget import Period, Scope
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import ledger_statements as statements
from auterity_dagster.storage.repositories.budgets import windows
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.fakes.ledger_requests import hold_request, make_budget

ORGANIZATION = uuid4()
CASES = [
    # zone, period, an instant, and the UTC hours in which its window opens and closes
    ("America/Chicago", "day", "2026-03-08T18:00Z", "2026-03-08T06:00Z", "2026-03-09T05:00Z"),
    ("America/Chicago", "day", "2026-11-01T18:00Z", "2026-11-01T05:00Z", "2026-11-02T06:00Z"),
    ("America/Chicago", "hour", "2026-11-01T06:30Z", "2026-11-01T06:00Z", "2026-11-01T07:00Z"),
    ("America/Chicago", "hour", "2026-11-01T07:30Z", "2026-11-01T07:00Z", "2026-11-01T08:00Z"),
    ("America/Chicago", "hour", "2026-03-08T07:59Z", "2026-03-08T07:00Z", "2026-03-08T08:00Z"),
    ("Asia/Kolkata", "hour", "2026-05-01T12:10Z", "2026-05-01T11:30Z", "2026-05-01T12:30Z"),
    ("Africa/Cairo", "day", "2026-04-24T12:00Z", "2026-04-23T22:00Z", "2026-04-24T21:00Z"),
    ("America/Chicago", "week", "2026-03-11T00:00Z", "2026-03-09T05:00Z", "2026-03-16T05:00Z"),
    ("America/Chicago", "month", "2026-03-01T03:00Z", "2026-02-01T06:00Z", "2026-03-01T06:00Z"),
    ("America/Chicago", "quarter", "2026-03-20T00:00Z", "2026-01-01T06:00Z", "2026-04-01T05:00Z"),
    ("Pacific/Auckland", "year", "2026-12-31T12:00Z", "2026-12-31T11:00Z", "2027-12-31T11:00Z"),
]


@pytest.mark.parametrize(("zone", "period", "at", "opens_at", "closes_at"), CASES)
async def test_a_window_follows_the_clock_on_the_wall(
    database: Database, database_urls, zone: str, period: str, at: str, opens_at: str, closes_at: str
) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=1, period=Period(period), time_zone=zone)
    current = statements.CURRENT_WINDOW.replace("now()", "%(at)s::timestamptz")
    asked = {"organization_id": ORGANIZATION, "budget_ids": [budget_id], "values": ["x"], "at": at}

    with psycopg.connect(database_urls.owner) as connection:
        found = connection.execute(f"SELECT {current}", asked).fetchone()

    assert found == tuple(datetime.fromisoformat(text).astimezone(UTC) for text in (opens_at, closes_at))


@pytest.mark.parametrize("scope", [Scope.USER, Scope.KEY, Scope.TAG])
async def test_a_star_gives_each_value_a_window_of_its_own(database: Database, database_urls, scope: Scope) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=100, scope=scope)
    first, second = uuid4(), uuid4()
    wanted = [
        hold_request(ORGANIZATION, amount_nusd=80, user_id=one, key_id=one, tags=(f"tag-{one}",))
        for one in (first, second)
    ]

    async with open_ledger(database_urls.application) as ledger:
        for request in wanted:
            await ledger.hold(request)
        with pytest.raises(BudgetExceeded):
            await ledger.hold(wanted[0])

    async with database.begin(ORGANIZATION) as session:
        assert [one.held_nusd for one in await windows(session, budget_id, limit=10)] == [80, 80]


async def test_a_call_with_several_tags_must_fit_the_budget_of_each(database: Database, database_urls) -> None:
    await make_budget(database, ORGANIZATION, name="Spring", cap_nusd=100, scope=Scope.TAG, value="spring")
    await make_budget(database, ORGANIZATION, name="Trade-ins", cap_nusd=50, scope=Scope.TAG, value="trade-ins")

    async with open_ledger(database_urls.application) as ledger:
        await ledger.hold(hold_request(ORGANIZATION, amount_nusd=80, tags=("spring",)))
        with pytest.raises(BudgetExceeded, match="Trade-ins"):
            await ledger.hold(hold_request(ORGANIZATION, amount_nusd=60, tags=("trade-ins",)))
        with pytest.raises(BudgetExceeded, match="Spring"):
            await ledger.hold(hold_request(ORGANIZATION, amount_nusd=30, tags=("spring", "trade-ins")))
