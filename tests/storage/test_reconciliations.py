"""A provider's bill is booked: suspense is emptied, windows and usage follow, and twice is once."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from uuid import uuid4

import psycopg
import pytest

from auterity_dagster.relaycore.ports import Hold, Settlement
from auterity_dagster.relaycore.reconciliation import BillLine
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.ledger import LedgerSettings, PostgresLedger, open_ledger
from auterity_dagster.storage.repositories.reconciliations import Bill, book
from auterity_dagster.storage.tables.ledger import ReconciliationRow
from tests.fakes.ledger_requests import hold_request, make_budget, usage_record

ORGANIZATION = uuid4()
CAP = 10_000


@pytest.fixture
async def ledger(database: Database, database_urls) -> AsyncIterator[PostgresLedger]:
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("INSERT INTO organization (id, name) VALUES (%s, 'ours')", (ORGANIZATION,))
    await make_budget(database, ORGANIZATION, cap_nusd=CAP)
    async with open_ledger(database_urls.application, LedgerSettings(reap_every_s=3600)) as ledger:
        yield ledger


@pytest.fixture
def owner(database_urls):
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        yield connection


def booked(database: BlockingDatabase, *lines: BillLine) -> ReconciliationRow:
    today = datetime.now(UTC).date()
    with database.begin(ORGANIZATION) as session:
        return book(session, Bill("sandbox", today, today, "digest", lines))


def line(cost_nusd: int, *, request: str | None = None, day: date | None = None) -> BillLine:
    return BillLine(request, day, "sandbox-large", cost_nusd)


def accounts(owner: psycopg.Connection) -> dict[str, int]:
    rows = owner.execute("SELECT account, sum(amount_nusd)::bigint FROM entry GROUP BY account").fetchall()
    return {account: amount for account, amount in rows if amount}


def settled_nusd(owner: psycopg.Connection) -> list[int]:
    return [one for (one,) in owner.execute("SELECT settled_nusd FROM budget_window ORDER BY is_hard").fetchall()]


async def unknown(ledger: PostgresLedger, amount_nusd: int) -> Hold:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=amount_nusd))
    await ledger.leave_unknown(hold, usage_record("timeout"))
    await ledger.drain()
    return hold


async def test_an_unknown_cost_leaves_suspense_at_what_the_bill_says(
    ledger: PostgresLedger, blocking_database: BlockingDatabase, owner
) -> None:
    await unknown(ledger, 1000)

    row = booked(blocking_database, line(300, request="sandbox-1"))

    assert accounts(owner) == {"spend": 300, "payable:sandbox/large": -300}
    assert settled_nusd(owner) == [300, 300]
    assert owner.execute("SELECT state, cost_nusd FROM hold").fetchall() == [("unknown", 300)]
    assert owner.execute("SELECT cost_nusd FROM usage").fetchall() == [(300,)]
    assert (row.matched_lines, row.corrections, row.adjusted_nusd, row.differences) == (1, 1, -700, 0)


async def test_the_same_bill_twice_corrects_nothing_the_second_time(
    ledger: PostgresLedger, blocking_database: BlockingDatabase, owner
) -> None:
    await unknown(ledger, 1000)
    booked(blocking_database, line(300))

    again = booked(blocking_database, line(300))

    assert (again.corrections, again.adjusted_nusd, again.differences) == (0, 0, 0)
    assert accounts(owner)["spend"] == 300


async def test_a_settled_call_that_was_billed_otherwise_is_adjusted(
    ledger: PostgresLedger, blocking_database: BlockingDatabase, owner
) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
    await ledger.settle(Settlement(hold, 300, usage_record()))
    await ledger.drain()

    row = booked(blocking_database, line(310, request="sandbox-1"))

    assert row.adjusted_nusd == 10
    assert accounts(owner) == {"spend": 310, "payable:sandbox/large": -310}
    assert owner.execute("SELECT kind, sequence FROM entry ORDER BY sequence").fetchall()[-1] == ("adjustment", 2)


async def test_a_bill_above_the_hold_is_overage_and_freezes_the_key(
    ledger: PostgresLedger, blocking_database: BlockingDatabase, owner
) -> None:
    owner.execute(
        "INSERT INTO api_key (organization_id, id, public_id, name, mode, digest, scopes, purposes, is_system)"
        " VALUES (%s, gen_random_uuid(), 'p', 'k', 'test', '', '{}', '{}', true)",
        (ORGANIZATION,),
    )
    [(key_id,)] = owner.execute("SELECT id FROM api_key").fetchall()
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=CAP, key_id=key_id))
    await ledger.leave_unknown(hold, usage_record("timeout"))
    await ledger.drain()

    booked(blocking_database, line(CAP + 5, request="sandbox-1"))

    assert owner.execute("SELECT overage_nusd FROM budget_window WHERE is_hard").fetchone() == (5,)
    assert owner.execute("SELECT frozen_by_request_id FROM api_key").fetchone() == (hold.request.request_id,)


async def test_a_settlement_that_comes_after_the_bill_changes_nothing(
    ledger: PostgresLedger, blocking_database: BlockingDatabase, owner
) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
    owner.execute("UPDATE hold SET expires_at = now() - interval '1 s'")
    await ledger.reap()
    booked(blocking_database, line(300))

    await ledger.settle(Settlement(hold, 299, usage_record()))
    await ledger.drain()

    assert accounts(owner)["spend"] == 300


async def test_calls_under_way_and_other_providers_calls_are_left_alone(
    ledger: PostgresLedger, blocking_database: BlockingDatabase, owner
) -> None:
    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
    await unknown(ledger, 500)
    owner.execute("UPDATE hold SET price_key = 'openai/gpt' WHERE state = 'unknown'")

    row = booked(blocking_database, line(300))

    assert (row.corrections, row.differences, row.report[0]["kind"]) == (0, 1, "not_in_ledger")
