"""PostgreSQL away: no call is made, the caller hears it at once, and what is owed is booked when it is back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from auterity_dagster.errors import Unavailable
from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.storage.repositories.ledger import LedgerSettings, PostgresLedger, open_ledger
from tests.chaos.fault_proxy import FaultProxy, fault_proxy
from tests.fakes.ledger_requests import hold_request, usage_record

ORGANIZATION = uuid4()
PATIENT = LedgerSettings(connect_within_s=10, answer_within_s=10, reap_every_s=3600, drain_within_s=20)
"""A server that is gone refuses at once; one that is back may be slow while other work has the cores."""

SOON_LOST = replace(PATIENT, answer_within_s=1)
"""For a server that is there and says nothing."""


@pytest.fixture
async def proxy(database_urls) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(make_url(database_urls.application).port or 0) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(database_urls, proxy: FaultProxy) -> str:
    return make_url(database_urls.application).set(port=proxy.port).render_as_string(hide_password=False)


@pytest.fixture
async def ledger(proxied_url: str) -> AsyncIterator[PostgresLedger]:
    async with open_ledger(proxied_url, PATIENT) as ledger:
        yield ledger


def holds(database_urls) -> list[tuple[str, int | None]]:
    with psycopg.connect(database_urls.owner) as connection:
        return connection.execute("SELECT state, cost_nusd FROM hold ORDER BY created_at").fetchall()


async def test_without_postgresql_nothing_is_held_and_the_caller_hears_it(
    ledger: PostgresLedger, proxy: FaultProxy
) -> None:
    await ledger.hold(hold_request(ORGANIZATION))
    await proxy.die()

    answers = await asyncio.gather(
        *(ledger.hold(hold_request(ORGANIZATION)) for _ in range(100)), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {Unavailable}
    refused = answers[0]
    assert isinstance(refused, Unavailable)
    assert (refused.code, refused.details["retry_after_s"]) == ("ledger_unavailable", 1)
    assert refused.message == "The budget ledger does not answer; no provider was called. Retry after 1 s."
    await proxy.listen()


async def test_the_first_hold_after_an_outage_is_made(ledger: PostgresLedger, proxy: FaultProxy) -> None:
    organizations = [uuid4() for _ in range(4)]  # so that several connections were open when PostgreSQL went away
    await asyncio.gather(*(ledger.hold(hold_request(one)) for one in organizations))
    await proxy.die()
    with pytest.raises(Unavailable):
        await ledger.hold(hold_request(ORGANIZATION))
    await proxy.listen()

    again = await asyncio.gather(*(ledger.hold(hold_request(one)) for one in organizations))

    assert len(again) == 4


async def test_a_settlement_waits_in_memory_until_postgresql_is_back(
    ledger: PostgresLedger, proxy: FaultProxy, database_urls
) -> None:
    hold = await ledger.hold(hold_request(ORGANIZATION))
    await proxy.die()

    await ledger.settle(Settlement(hold, 42, usage_record()))
    unbooked = ledger.unbooked
    await proxy.listen()
    await ledger.drain()

    assert unbooked == 1
    assert holds(database_urls) == [("settled", 42)]


async def test_a_hold_whose_commit_nobody_saw_is_given_back(proxied_url: str, proxy: FaultProxy, database_urls) -> None:
    async with open_ledger(proxied_url, SOON_LOST) as ledger:
        await ledger.hold(hold_request(ORGANIZATION))
        proxy.fall_silent()
        with pytest.raises(Unavailable):
            await ledger.hold(hold_request(ORGANIZATION))
        await proxy.die()

        await proxy.listen()
        await ledger.drain()

    assert [state for state, _ in holds(database_urls)] == ["held", "voided"]
