"""P-6: what a call costs is exact to the nano-dollar, in the rules and in every booking."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings

from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.relaycore.pricing import Price, Usage, cost
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.chaos.books import PATIENT
from tests.chaos.ledger_processes import SEED
from tests.chaos.negative_controls import cost_in_floats
from tests.conftest import DatabaseUrls
from tests.fakes.ledger_requests import hold_request, usage_record
from tests.fakes.price_cases import billed, is_exact, seeded_case

BOOKED = """
SELECT u.prompt_tokens, u.completion_tokens, u.cache_read_tokens, u.cache_write_5m_tokens, u.cache_write_1h_tokens,
    u.price_digest, e.amount_nusd
FROM entry e JOIN usage u ON u.organization_id = e.organization_id AND u.id = e.hold_id WHERE e.account = 'spend'
"""


def wrong_cases(count: int, *, priced: Callable[[Usage, Price], int] = cost) -> int:
    chance = random.Random(SEED)
    cases = (seeded_case(chance) for _ in range(count))
    return sum(not is_exact(priced(usage, listed), usage, listed) for usage, listed in cases)


async def wrong_entries(urls: DatabaseUrls, *, count: int) -> tuple[int, int]:
    """Settle calls of random usages and prices, compute each booking again; return how many, and how many differ."""
    chance, organization_id, prices = random.Random(SEED), uuid4(), dict[str, Price]()
    numbers = iter(range(count))

    async with open_ledger(urls.application, PATIENT) as ledger:

        async def client() -> None:
            for number in numbers:
                usage, listed = seeded_case(chance)
                listed = prices.setdefault(f"{number % 1000}", listed)
                amount_nusd = cost(usage, listed)
                request = replace(
                    hold_request(organization_id, amount_nusd=amount_nusd), price_digest=f"{number % 1000}"
                )
                hold = await ledger.hold(request)
                await ledger.settle(Settlement(hold, amount_nusd, replace(usage_record(), usage=usage)))

        async with asyncio.TaskGroup() as clients:
            for _ in range(64):
                clients.create_task(client())
    with psycopg.connect(urls.owner) as connection:
        rows = connection.execute(BOOKED).fetchall()
    return len(rows), sum(not is_exact(row[6], Usage(*row[:5]), prices[row[5]]) for row in rows)


@settings(max_examples=2_000, deadline=None)
@given(billed())
def test_two_thousand_costs_equal_the_fractions(case: tuple[Usage, Price]) -> None:
    usage, listed = case

    assert is_exact(cost(usage, listed), usage, listed)


def test_fifty_thousand_seeded_costs_equal_the_fractions() -> None:
    assert wrong_cases(50_000) == 0


async def test_five_hundred_bookings_are_computed_again(database_urls: DatabaseUrls) -> None:
    assert await wrong_entries(database_urls, count=500) == (500, 0)


@pytest.mark.chaos
@pytest.mark.promise("P-6")
@pytest.mark.timeout(1800)
def test_twenty_thousand_costs_equal_the_fractions(noted: dict[str, int]) -> None:
    @settings(max_examples=20_000, deadline=None)
    @given(billed())
    def is_right(case: tuple[Usage, Price]) -> None:
        usage, listed = case
        assert is_exact(cost(usage, listed), usage, listed)

    is_right()
    noted |= {"n": 20_000}


@pytest.mark.chaos
@pytest.mark.promise("P-6")
@pytest.mark.timeout(1800)
def test_a_million_seeded_costs_equal_the_fractions(noted: dict[str, int]) -> None:
    noted |= {"n": 1_000_000, "wrong_cases": wrong_cases(1_000_000)}

    assert noted["wrong_cases"] == 0


@pytest.mark.chaos
@pytest.mark.promise("P-6")
@pytest.mark.timeout(1800)
async def test_twenty_thousand_bookings_are_computed_again(database_urls: DatabaseUrls, noted: dict[str, int]) -> None:
    entries, wrong = await wrong_entries(database_urls, count=20_000)
    noted |= {"n": entries, "entries": entries, "wrong_entries": wrong}

    assert (entries, wrong) == (20_000, 0)


@pytest.mark.control
@pytest.mark.promise("P-6", control=True)
def test_prices_in_floats_are_found_out() -> None:
    assert wrong_cases(50_000, priced=cost_in_floats) > 0
