"""The ledger on real PostgreSQL: what it admits and refuses, and what it says."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import psycopg
import pytest

from auterity_dagster.errors import BudgetExceeded, Invalid, NotAuthenticated, NotPermitted
from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.budgets import change_budget, windows
from auterity_dagster.storage.repositories.ledger import PostgresLedger, open_ledger
from tests.fakes.ledger_requests import hold_request, make_budget, usage_record

ORGANIZATION = uuid4()


@pytest.fixture
async def ledger(database_urls) -> AsyncIterator[PostgresLedger]:
    async with open_ledger(database_urls.application) as ledger:
        yield ledger


async def room(database: Database, budget_id) -> int:
    async with database.begin(ORGANIZATION) as session:
        (window,) = await windows(session, budget_id, limit=10)
    return window.cap_nusd - window.held_nusd - window.settled_nusd


async def test_an_organization_without_a_budget_is_recorded_and_not_limited(
    database: Database, ledger: PostgresLedger
) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=10**12))

    assert hold.budget_left_nusd is None


async def test_a_hold_takes_its_amount_from_every_hard_budget(database: Database, ledger: PostgresLedger) -> None:
    dealership_id = uuid4()
    wide = await make_budget(database, ORGANIZATION, name="Wide", cap_nusd=1000)
    narrow = await make_budget(
        database, ORGANIZATION, name="Narrow", cap_nusd=300, scope=Scope.DEALERSHIP, value="*", period=Period.DAY
    )

    hold = await ledger.hold(hold_request(ORGANIZATION, dealership_id=dealership_id, amount_nusd=100))

    assert hold.budget_left_nusd == 200
    assert (await room(database, wide), await room(database, narrow)) == (900, 200)


async def test_a_refusal_says_which_budget_and_what_would_fit(database: Database, ledger: PostgresLedger) -> None:
    await make_budget(database, ORGANIZATION, name="Trial", cap_nusd=120_000_000, period=Period.LIFETIME)
    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=100_000_000))

    with pytest.raises(BudgetExceeded) as refused:
        await ledger.hold(hold_request(ORGANIZATION, amount_nusd=50_000_000))

    assert refused.value.message.startswith(f'Budget "Trial" (organization {ORGANIZATION}, 20')
    assert refused.value.message.endswith(
        "to no end) has $0.02 of $0.12 left; this call may cost $0.05. 20000000 output tokens would fit."
    )


async def test_a_batch_admits_what_fits_in_order_of_arrival(database: Database, ledger: PostgresLedger) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=1000)
    amounts = [600, 500, 300, 200, 100]

    answers = await asyncio.gather(
        *(ledger.hold(hold_request(ORGANIZATION, amount_nusd=amount)) for amount in amounts), return_exceptions=True
    )

    assert [not isinstance(answer, BaseException) for answer in answers] == [True, False, True, False, True]
    assert await room(database, budget_id) == 0


@pytest.mark.parametrize("enforcement", [Enforcement.SOFT, Enforcement.SHADOW])
async def test_only_a_hard_budget_refuses(database: Database, ledger: PostgresLedger, enforcement: Enforcement) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=10, enforcement=enforcement)

    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=100))

    assert await room(database, budget_id) == -90


async def test_a_budget_binds_only_the_value_it_names(database: Database, ledger: PostgresLedger) -> None:
    await make_budget(database, ORGANIZATION, cap_nusd=50, scope=Scope.PURPOSE, value="judging")

    await ledger.hold(hold_request(ORGANIZATION, purpose="workflow"))
    with pytest.raises(BudgetExceeded):
        await ledger.hold(hold_request(ORGANIZATION, purpose="judging"))


async def test_a_new_budget_binds_the_next_hold_of_a_running_process(
    database: Database, ledger: PostgresLedger
) -> None:
    await ledger.hold(hold_request(ORGANIZATION))
    await make_budget(database, ORGANIZATION, cap_nusd=50)

    with pytest.raises(BudgetExceeded):
        await ledger.hold(hold_request(ORGANIZATION))


async def test_a_cap_below_what_is_used_admits_nothing_until_use_is_below_it(
    database: Database, ledger: PostgresLedger
) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=1000)
    hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=800))
    async with database.begin(ORGANIZATION) as session:
        await change_budget(session, budget_id, cap_nusd=500, alert_percents=(), version=1)
    async with database.begin(ORGANIZATION) as session:
        (window,) = await windows(session, budget_id, limit=1)

    with pytest.raises(BudgetExceeded):
        await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1))
    await ledger.settle(Settlement(hold, 100, usage_record()))
    await ledger.drain()
    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=400))

    assert window.overage_nusd == 300


async def test_a_window_that_ended_is_followed_by_the_next(
    database: Database, database_urls, ledger: PostgresLedger
) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=100, period=Period.HOUR)
    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=100))
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("UPDATE budget_window SET opens_at = opens_at - interval '2 hours', closes_at = now()")

    await ledger.hold(hold_request(ORGANIZATION, amount_nusd=100))

    async with database.begin(ORGANIZATION) as session:
        assert len(await windows(session, budget_id, limit=10)) == 2


def insert_key(connection: psycopg.Connection, name: str) -> UUID:
    key_id = uuid4()
    connection.execute(
        "INSERT INTO api_key (organization_id, id, public_id, name, mode, digest, scopes, purposes, is_system)"
        " VALUES (%s, %s, %s, %s, 'test', '', '{}', ARRAY[%s], true)",
        (ORGANIZATION, key_id, str(key_id), name, name),
    )
    return key_id


async def test_a_revoked_or_frozen_key_cannot_spend(database_urls, ledger: PostgresLedger) -> None:
    request_id = uuid4()
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("SET session_replication_role = replica")  # keys of an organization that has no row
        revoked, frozen = insert_key(connection, "revoked"), insert_key(connection, "frozen")
        connection.execute("UPDATE api_key SET revoked_at = now() WHERE id = %s", (revoked,))
        connection.execute("UPDATE api_key SET frozen_by_request_id = %s WHERE id = %s", (request_id, frozen))

    answers = await asyncio.gather(
        *(ledger.hold(hold_request(ORGANIZATION, key_id=key_id)) for key_id in (revoked, frozen, uuid4())),
        return_exceptions=True,
    )

    assert isinstance(answers[0], NotAuthenticated)
    assert answers[0].code == "key_revoked"
    assert isinstance(answers[1], NotPermitted)
    assert str(request_id) in answers[1].message
    assert not isinstance(answers[2], BaseException)


async def test_an_absurd_amount_is_invalid(ledger: PostgresLedger) -> None:
    with pytest.raises(Invalid):
        await ledger.hold(hold_request(ORGANIZATION, amount_nusd=10**16))
