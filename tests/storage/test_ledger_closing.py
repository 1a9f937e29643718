"""How holds end: settled, voided, unknown, reaped; each booked once, and every booking sums to zero."""

import asyncio
from collections.abc import AsyncIterator
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege

from auterity_dagster.relaycore.ports import Hold, Settlement
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import LedgerSettings, PostgresLedger, open_ledger
from tests.fakes.ledger_requests import hold_request, make_budget, usage_record

ORGANIZATION = uuid4()
CAP = 10_000


@pytest.fixture
async def ledger(database: Database, database_urls) -> AsyncIterator[PostgresLedger]:
    await make_budget(database, ORGANIZATION, cap_nusd=CAP)
    async with open_ledger(database_urls.application, LedgerSettings(reap_every_s=3600)) as ledger:
        yield ledger


@pytest.fixture
def owner(database_urls):
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        yield connection


def window(owner: psycopg.Connection) -> tuple[int, int, int]:
    """Held, settled and overage of the one hard window."""
    row = owner.execute("SELECT held_nusd, settled_nusd, overage_nusd FROM budget_window WHERE is_hard").fetchone()
    assert row is not None
    return tuple(row)


def accounts(owner: psycopg.Connection) -> dict[str, int]:
    rows = owner.execute("SELECT account, sum(amount_nusd)::bigint FROM entry GROUP BY account").fetchall()
    return {account: amount for account, amount in rows if amount}


def expire(owner: psycopg.Connection, hold: Hold) -> None:
    owner.execute("UPDATE hold SET expires_at = now() - interval '1 s' WHERE id = %s", (hold.id,))


async def test_a_settlement_books_the_cost_and_gives_the_rest_back(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))

    await ledger.settle(Settlement(hold, 300, usage_record()))
    await ledger.drain()

    assert window(owner) == (0, 300, 0)
    assert accounts(owner) == {"spend": 300, "payable:sandbox/large": -300}
    used = owner.execute("SELECT id, cost_nusd, prompt_tokens, completion_tokens, outcome FROM usage").fetchall()
    assert used == [(hold.id, 300, 10, 5, "ok")]


async def test_a_voided_hold_costs_nothing_and_leaves_a_usage_row(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))

    await ledger.void(hold, usage_record("connection"))
    await ledger.drain()

    assert window(owner) == (0, 0, 0)
    assert accounts(owner) == {}
    assert owner.execute("SELECT cost_nusd, prompt_tokens, outcome FROM usage").fetchall() == [(0, None, "connection")]


async def test_an_unknown_cost_is_booked_in_full_on_the_suspense_account(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))

    await ledger.leave_unknown(hold, usage_record("timeout"))
    await ledger.drain()

    assert window(owner) == (0, 1000, 0)
    assert accounts(owner) == {"suspense": 1000, "payable:sandbox/large": -1000}


async def test_a_hold_closes_once_however_often_it_is_told(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))

    for _ in range(2):
        await ledger.settle(Settlement(hold, 300, usage_record()))
        await ledger.settle(Settlement(hold, 300, usage_record()))
        await ledger.void(hold, usage_record("connection"))
        await ledger.drain()

    assert window(owner) == (0, 300, 0)
    assert accounts(owner) == {"spend": 300, "payable:sandbox/large": -300}


async def test_a_bill_above_the_hold_is_booked_in_full_and_freezes_the_key(ledger: PostgresLedger, owner) -> None:
    owner.execute("SET session_replication_role = replica")
    key_id = uuid4()
    owner.execute(
        "INSERT INTO api_key (organization_id, id, public_id, name, mode, digest, scopes, purposes, is_system)"
        " VALUES (%s, %s, 'p', 'k', 'test', '', '{}', '{}', true)",
        (ORGANIZATION, key_id),
    )
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=CAP, key_id=key_id))

    await ledger.settle(Settlement(hold, CAP + 7, usage_record()))
    await ledger.drain()

    assert window(owner) == (0, CAP + 7, 7)
    assert owner.execute("SELECT frozen_by_request_id FROM api_key").fetchone() == (hold.request.request_id,)


async def test_the_reaper_books_an_expired_hold_as_unknown(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
    fresh = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1))
    expire(owner, hold)

    closed = await ledger.reap()

    assert closed == 1
    assert window(owner) == (fresh.request.amount_nusd, 1000, 0)
    assert owner.execute("SELECT outcome, cost_nusd FROM usage").fetchall() == [("expired", 1000)]


async def test_the_reaper_voids_what_was_never_dispatched(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
    owner.execute("UPDATE hold SET dispatched_at = NULL")
    expire(owner, hold)

    await ledger.reap()

    assert window(owner) == (0, 0, 0)
    assert owner.execute("SELECT state FROM hold").fetchone() == ("voided",)


async def test_a_settlement_after_the_reaper_corrects_the_cost_once(ledger: PostgresLedger, owner) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
    expire(owner, hold)
    await ledger.reap()

    for _ in range(2):
        await ledger.settle(Settlement(hold, 300, usage_record()))
        await ledger.drain()

    assert window(owner) == (0, 300, 0)
    assert accounts(owner) == {"spend": 300, "payable:sandbox/large": -300}
    assert owner.execute("SELECT state, cost_nusd FROM hold").fetchone() == ("unknown", 300)
    assert owner.execute("SELECT outcome, cost_nusd FROM usage").fetchall() == [("ok", 300)]


async def test_a_caller_that_goes_away_leaves_no_hold_behind(ledger: PostgresLedger, owner) -> None:
    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1))
    callers = [asyncio.create_task(ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))) for _ in range(5)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)

    await ledger.drain_holds()
    await ledger.drain()

    assert window(owner) == (1, 0, 0)


async def test_entries_that_do_not_sum_to_zero_are_refused(ledger: PostgresLedger, database_urls) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION))

    with pytest.raises(CheckViolation, match="do not sum to 0"):
        book(database_urls.application, hold.id, [("spend", 5), ("payable:x", -4)])


def book(url: str, hold_id: UUID, entries: list[tuple[str, int]]) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT set_config('auterity.organization_id', %s, true)", (str(ORGANIZATION),))
        for account, amount in entries:
            connection.execute(
                "INSERT INTO entry (organization_id, hold_id, sequence, account, amount_nusd, kind, price_digest)"
                " VALUES (%s, %s, 9, %s, %s, 'settlement', '')",
                (ORGANIZATION, hold_id, account, amount),
            )


@pytest.mark.parametrize("statement", ["UPDATE entry SET amount_nusd = 0", "DELETE FROM entry", "DELETE FROM hold"])
def test_the_application_may_only_add_entries(database_urls, statement: LiteralString) -> None:
    with psycopg.connect(database_urls.application) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("table", ["budget", "budget_window", "hold", "entry", "usage"])
async def test_another_organization_sees_none_of_it(
    ledger: PostgresLedger, database_urls, table: LiteralString
) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION))
    await ledger.settle(Settlement(hold, 1, usage_record()))
    await ledger.drain()

    with psycopg.connect(database_urls.application) as connection:
        connection.execute("SELECT set_config('auterity.organization_id', %s, true)", (str(uuid4()),))
        foreign = connection.execute(f"SELECT count(*) FROM {table}").fetchone()

    assert foreign == (0,)
