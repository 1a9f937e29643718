"""P-2: every nano-dollar that a provider bills is in the ledger once, also for streams that break or lie."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from auterity_dagster.serving.relaycore.app import build_app
from tests.chaos.books import reap_all, reconcile_bill
from tests.chaos.checkers import BilledSample, Verdict, never_below_the_bill, once_per_provider_request
from tests.chaos.gateway_control import only_what_the_caller_got
from tests.chaos.ledger_samples import BOOKED, spend_and_suspense
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import NO_BREAKER, written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack

DEPLOYMENTS = ("openai-large", "openai-small", "anthropic-large", "anthropic-small")
FAULTS = (
    *("cut_at_start", "cut_first_byte", "cut_stream", "cut_at_end"),
    *("usage_absent", "usage_zero", "usage_negative", "usage_twice", "usage_nan", "usage_too_high"),
)
"""The last one is billed above the hold, which freezes the key."""
AT_ONCE = 40
PAID_FOR = """
SELECT u.provider_request_id FROM hold h LEFT JOIN usage u USING (organization_id, id) WHERE h.state <> 'voided'
"""


async def broken_streams(stack: Stack, *, each: int) -> int:
    """Ask every deployment under every fault; the answers do not matter here. Returns how many calls were made."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def ask(deployment: str) -> None:
        async with at_once:
            await stack.ask({"model": deployment, "messages": QUESTION, "stream": True, "max_tokens": 64})

    for fault in FAULTS:
        await stack.set_faults({"fault": fault})
        await asyncio.gather(*(ask(deployment) for deployment in DEPLOYMENTS for _ in range(each)))
    await stack.set_faults()
    return len(FAULTS) * len(DEPLOYMENTS) * each


@asynccontextmanager
async def watched(stack: Stack, urls: DatabaseUrls) -> AsyncGenerator[list[BilledSample]]:
    """Compare while calls are under way: first the bill is read, then the ledger, which must not be below it."""
    samples: list[BilledSample] = []

    async def look() -> None:
        async with await psycopg.AsyncConnection.connect(urls.owner, autocommit=True) as connection:
            while True:
                billed_nusd = sum(line["cost_nusd"] for line in await stack.bill())
                row = await (await connection.execute(BOOKED)).fetchone()
                assert row is not None
                samples.append(BilledSample(billed_nusd, row[0]))
                await asyncio.sleep(0.1)

    task = asyncio.create_task(look())
    try:
        yield samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def judged(
    urls: DatabaseUrls, redis_url: str, folder: Path, *, each: int, noted: dict[str, int], **composed
) -> list[Verdict]:
    changes = written_config(folder, breaker=NO_BREAKER)
    async with running_stack(urls, redis_url, folder, **composed, **changes) as stack:
        async with watched(stack, urls) as samples:
            calls = await broken_streams(stack, each=each)
        bill = await stack.bill()
        organization_id = stack.organization_id
    await reap_all(urls.owner, urls.application)
    with psycopg.connect(urls.owner) as connection:
        paid_for = connection.execute(PAID_FOR).fetchall()
    before = await spend_and_suspense(urls.owner)
    unexplained = reconcile_bill(urls.owner, urls.application, organization_id, bill)
    spend_nusd, suspense_nusd = await spend_and_suspense(urls.owner)
    bill_nusd = sum(line["cost_nusd"] for line in bill)
    noted |= {"n": calls, "bill_nusd": bill_nusd, "spend_nusd": spend_nusd, "unknown_before_nusd": before[1]}
    noted |= {"samples": len(samples), "unexplained": unexplained}
    return [
        never_below_the_bill([*samples, BilledSample(bill_nusd, sum(before))]),
        never_below_the_bill([BilledSample(bill_nusd, spend_nusd)], is_reconciled=True),
        once_per_provider_request(
            [one for (one,) in paid_for], lines=len(bill), suspense_nusd=suspense_nusd, unexplained=unexplained
        ),
    ]


async def test_three_hundred_broken_streams_are_in_the_ledger_once(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, noted: dict[str, int]
) -> None:
    verdicts = await judged(database_urls, redis_url, tmp_path, each=8, noted=noted)

    assert [reason for verdict in verdicts for reason in verdict.reasons] == []


@pytest.mark.chaos
@pytest.mark.promise("P-2")
@pytest.mark.timeout(1800)
async def test_six_thousand_broken_streams_are_in_the_ledger_once(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, noted: dict[str, int]
) -> None:
    verdicts = await judged(database_urls, redis_url, tmp_path, each=150, noted=noted)

    assert [reason for verdict in verdicts for reason in verdict.reasons] == []


@pytest.mark.control
@pytest.mark.promise("P-2", control=True)
async def test_a_ledger_that_books_what_the_caller_got_is_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    build = partial(build_app, opened=only_what_the_caller_got)
    verdicts = await judged(database_urls, redis_url, tmp_path, each=1, noted={}, build=build)

    assert not verdicts[0].is_held


class TestTheCheckersOnPlantedHistories:
    def test_a_nano_dollar_that_is_missing_is_found(self) -> None:
        assert not never_below_the_bill([BilledSample(5, 5), BilledSample(6, 5)]).is_held

    def test_a_ledger_above_the_bill_is_found_once_it_is_reconciled(self) -> None:
        assert never_below_the_bill([BilledSample(5, 6)]).is_held
        assert not never_below_the_bill([BilledSample(5, 6)], is_reconciled=True).is_held

    def test_no_sample_proves_nothing(self) -> None:
        assert not never_below_the_bill([]).is_held

    @pytest.mark.parametrize(
        "wrong",
        [{"paid_for": ["a", "a", None]}, {"paid_for": ["a"]}, {"suspense_nusd": 1}, {"unexplained": 1}],
        ids=["paid twice", "not in the ledger", "open", "unexplained"],
    )
    def test_a_request_that_is_booked_twice_or_left_open_is_found(self, wrong: dict[str, Any]) -> None:
        right: dict[str, Any] = {"paid_for": ["a", None], "lines": 2, "suspense_nusd": 0, "unexplained": 0}

        assert once_per_provider_request(**right).is_held
        assert not once_per_provider_request(**right | wrong).is_held
