"""Cost is exact: integers against fractions, and a hold never falls short of what it covers (P-6)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auterity_dagster.errors import Invalid, PriceUnknown
from auterity_dagster.relaycore.pricing import Price, Rates, Usage, bound, cost, cost_elsewhere
from tests.fakes.price_cases import billed, is_exact, price


@settings(max_examples=600, deadline=None)
@given(billed())
def test_cost_is_the_exact_sum_with_each_class_rounded_up_once(case: tuple[Usage, Price]) -> None:
    usage, listed = case

    assert is_exact(cost(usage, listed), usage, listed)


@settings(max_examples=600, deadline=None)
@given(billed(), st.integers(min_value=0, max_value=1000), st.integers(min_value=0, max_value=1000))
def test_no_call_within_its_bounds_costs_more_than_its_hold(case: tuple[Usage, Price], more: int, further: int) -> None:
    usage, listed = case

    held = bound(usage.prompt_tokens + more, usage.completion_tokens + further, listed)

    assert cost(usage, listed) <= held


def test_a_known_call_costs_what_the_price_list_says() -> None:
    listed = price(Rates(0, 2 * 10**9, 10 * 10**9, 10**8, None, None))

    spent = cost(Usage(prompt_tokens=1000, completion_tokens=200, cache_read_tokens=400), listed)

    assert spent == 600 * 2000 + 400 * 100 + 200 * 10_000


def test_the_tier_follows_the_whole_prompt() -> None:
    listed = price(Rates(0, 10**9, 10**9, None, None, None), Rates(100, 5 * 10**9, 2 * 10**9, None, None, None))

    assert cost(Usage(100, 1), listed) == 100 * 1000 + 1000
    assert cost(Usage(101, 1), listed) == 101 * 5000 + 2000


def test_a_class_that_the_price_does_not_name_is_not_guessed() -> None:
    listed = price(Rates(0, 10**9, 10**9, None, None, None))

    with pytest.raises(PriceUnknown):
        cost(Usage(10, 1, cache_read_tokens=5), listed)


def test_elsewhere_a_class_without_a_rate_is_plain_input() -> None:
    usage = Usage(1000, 10, cache_read_tokens=400, cache_write_5m_tokens=100)

    elsewhere = cost_elsewhere(usage, price(Rates(0, 10**9, 2 * 10**9, 10**8, None, None)))

    assert elsewhere == 600 * 1000 + 400 * 100 + 10 * 2000


@pytest.mark.parametrize(
    "counts", [(-1, 0), (0, -1), (5, 0, 6), (5, 0, -1), (5, 0, 0, -2), (5, 0, 2, 2, 2)], ids=lambda counts: str(counts)
)
def test_impossible_token_counts_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(Invalid):
        Usage(*counts)
