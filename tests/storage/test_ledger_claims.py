"""Claims of idempotency keys in the hold's own commit: one request a key, however many come at once."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from auterity_dagster.errors import BudgetExceeded, Conflict
from auterity_dagster.relaycore.chat import IdempotencyClaim
from auterity_dagster.relaycore.ports import Hold, HoldRequest
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import idempotency
from auterity_dagster.storage.repositories.idempotency import KnownCall
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.fakes.ledger_requests import hold_request, make_budget, usage_record

ORGANIZATION = uuid4()


def claiming(key: bytes = b"key", **given) -> HoldRequest:
    return hold_request(ORGANIZATION, claim=IdempotencyClaim(uuid4(), key.ljust(32), b"body".ljust(32)), **given)


async def known(database: Database, key: bytes = b"key") -> KnownCall | None:
    async with database.begin(ORGANIZATION) as session:
        return await idempotency.find(session, key.ljust(32))


async def test_of_many_requests_in_two_processes_one_gets_the_key_and_only_it_is_held(
    database: Database, database_urls
) -> None:
    budget_id = await make_budget(database, ORGANIZATION, cap_nusd=10_000)
    keys = [b"%d" % number for number in range(10)]
    async with open_ledger(database_urls.application) as one, open_ledger(database_urls.application) as other:
        await asyncio.gather(one.hold(hold_request(ORGANIZATION)), other.hold(hold_request(ORGANIZATION)))
        answers = await asyncio.gather(
            *(ledger.hold(claiming(key)) for key in keys for ledger in (one, other) for _ in range(5)),
            return_exceptions=True,
        )

    holds = [answer for answer in answers if isinstance(answer, Hold)]
    refusals = [answer for answer in answers if not isinstance(answer, Hold)]
    with psycopg.connect(database_urls.owner) as connection:
        held = connection.execute("SELECT held_nusd FROM budget_window WHERE budget_id = %s", (budget_id,)).fetchone()
    assert sorted(hold.request.claim.key_digest for hold in holds if hold.request.claim) == sorted(
        key.ljust(32) for key in keys
    )
    assert {error.code for error in refusals if isinstance(error, Conflict)} == {"idempotency_running"}
    assert len(refusals) == 90
    assert held == ((2 + 10) * 100,)


async def test_a_later_attempt_of_the_same_request_keeps_the_key(database: Database, database_urls) -> None:
    first = claiming()
    async with open_ledger(database_urls.application) as ledger:
        hold = await ledger.hold(first)
        await ledger.void(hold, usage_record("connection"))
        await ledger.drain()
        again = await ledger.hold(first)

    with psycopg.connect(database_urls.owner) as connection:
        assert connection.execute("SELECT hold_id FROM idempotency").fetchall() == [(again.id,)]


async def test_a_refused_hold_claims_nothing(database: Database, database_urls) -> None:
    await make_budget(database, ORGANIZATION, cap_nusd=10)

    async with open_ledger(database_urls.application) as ledger:
        with pytest.raises(BudgetExceeded):
            await ledger.hold(claiming())

    assert await known(database) is None


async def test_a_key_is_running_then_done_and_free_again_after_a_day(database: Database, database_urls) -> None:
    request = claiming()
    assert request.claim is not None
    async with open_ledger(database_urls.application) as ledger:
        await ledger.hold(request)
        running = await known(database)
        async with database.begin(ORGANIZATION) as session:
            await idempotency.complete(session, request.claim, answer=b"sealed")
        done = await known(database)
        with psycopg.connect(database_urls.owner) as connection:
            connection.execute("UPDATE idempotency SET expires_at = now()")
        later = await known(database)
        await ledger.hold(claiming())

    assert running is not None
    assert done is not None
    assert (running.state, done.state, done.answer, later) == ("running", "done", b"sealed", None)


@pytest.mark.parametrize(
    "fate",
    [
        "UPDATE hold SET state = 'unknown', closed_at = now(), cost_nusd = 1",
        "UPDATE hold SET expires_at = now()",
        "UPDATE hold SET state = 'settled', cost_nusd = 1, closed_at = now() - interval '2 minutes'",
    ],
    ids=["cost unknown", "process died", "process died before it kept the answer"],
)
async def test_a_call_that_nobody_can_account_for_is_lost(database: Database, database_urls, fate) -> None:
    async with open_ledger(database_urls.application) as ledger:
        await ledger.hold(claiming())
        with psycopg.connect(database_urls.owner) as connection:
            connection.execute(fate)

    found = await known(database)
    assert found is not None
    assert found.state == "lost"


async def test_a_released_key_may_be_claimed_again(database: Database, database_urls) -> None:
    request = claiming()
    assert request.claim is not None
    async with open_ledger(database_urls.application) as ledger:
        await ledger.hold(request)
        async with database.begin(ORGANIZATION) as session:
            await idempotency.release(session, request.claim)
        await ledger.hold(claiming())
