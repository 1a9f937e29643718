"""Alerts of budgets: once a window and percentage, told in the outbox and in the audit log."""

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from auterity_dagster.relaycore.budget import Enforcement
from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.budget_alerts import announce
from auterity_dagster.storage.repositories.budgets import change_budget
from auterity_dagster.storage.repositories.ledger import LedgerSettings, PostgresLedger, open_ledger
from tests.fakes.ledger_requests import hold_request, make_budget, usage_record

ORGANIZATION = uuid4()


@pytest.fixture
async def ledger(database_urls) -> AsyncIterator[PostgresLedger]:
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("INSERT INTO organization (id, name) VALUES (%s, 'ours')", (ORGANIZATION,))
    async with open_ledger(database_urls.application, LedgerSettings(reap_every_s=3600)) as ledger:
        yield ledger


async def spend(ledger: PostgresLedger, *costs_nusd: int) -> None:
    for cost_nusd in costs_nusd:
        hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=cost_nusd))
        await ledger.settle(Settlement(hold, cost_nusd, usage_record()))
        await ledger.drain()


def percents(database_urls) -> list[int]:
    with psycopg.connect(database_urls.owner) as connection:
        told = connection.execute(
            "SELECT (payload->>'percent')::int FROM outbox WHERE topic = 'budgets' ORDER BY created_at, 1"
        ).fetchall()
        audited = connection.execute(
            "SELECT (details->>'percent')::int FROM audit_entry WHERE action = 'budget.alert' ORDER BY sequence"
        ).fetchall()
    assert told == audited
    return [percent for (percent,) in told]


@pytest.mark.parametrize("enforcement", list(Enforcement))
async def test_each_percentage_is_told_once_when_the_spend_reaches_it(
    database: Database, database_urls, ledger: PostgresLedger, enforcement: Enforcement
) -> None:
    await make_budget(database, ORGANIZATION, cap_nusd=1000, enforcement=enforcement, alert_percents=(50, 80, 100))

    told: list[list[int]] = []
    for cost_nusd in (499, 1, 100, 350, 50):
        await spend(ledger, cost_nusd)
        await announce(database)
        told.append(percents(database_urls))

    assert told == [[], [50], [50], [50, 80], [50, 80, 100]]
    assert await announce(database) == 0


async def test_one_booking_that_passes_several_percentages_tells_of_each(
    database: Database, database_urls, ledger: PostgresLedger
) -> None:
    await make_budget(database, ORGANIZATION, cap_nusd=1000, alert_percents=(10, 50, 90))

    await spend(ledger, 600)

    assert await announce(database) == 2
    assert percents(database_urls) == [10, 50]


async def test_a_raised_cap_does_not_repeat_what_was_told(
    database: Database, database_urls, ledger: PostgresLedger
) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=1000, alert_percents=(50,))
    await spend(ledger, 500)
    async with database.begin(ORGANIZATION) as session:
        await change_budget(session, budget_id, cap_nusd=4000, alert_percents=(50, 75), version=1)

    await spend(ledger, 1500, 1000)
    await announce(database)

    assert percents(database_urls) == [50, 75]
