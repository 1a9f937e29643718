"""Cost is exact: integers against fractions, and a hold never falls short of what it covers (P-6)."""

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auterity_dagster.errors import Invalid, PriceUnknown
from auterity_dagster.relaycore.pricing import Price, Rates, Usage, bound, cost, cost_elsewhere

RATE = st.integers(min_value=0, max_value=200 * 10**9)
TOKENS = st.integers(min_value=0, max_value=3_000_000)


def price(*tiers: Rates) -> Price:
    return Price(key="test/model", in_force_from=date(2026, 1, 1), tiers=tiers, digest="d", source="a test")


@st.composite
def prices(draw: st.DrawFn) -> Price:
    thresholds = sorted(draw(st.sets(st.integers(min_value=1, max_value=2_000_000), max_size=2)))
    optional = st.none() | RATE
    return price(
        *(
            Rates(above, draw(RATE), draw(RATE), draw(optional), draw(optional), draw(optional))
            for above in (0, *thresholds)
        )
    )


@st.composite
def billed(draw: st.DrawFn) -> tuple[Usage, Price]:
    """A usage that has tokens only in classes its tier names."""
    listed = draw(prices())
    counts = [draw(TOKENS) for _ in range(4)]
    rates = tier_of(sum(counts), listed)
    classes = (rates.input, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h)
    uncached, read, short, long = (
        count if rate is not None else 0 for count, rate in zip(counts, classes, strict=True)
    )
    usage = Usage(uncached + read + short + long, draw(TOKENS), read, short, long)
    again = tier_of(usage.prompt_tokens, listed)
    if any(
        tokens and rate is None
        for tokens, rate in ((read, again.cache_read), (short, again.cache_write_5m), (long, again.cache_write_1h))
    ):
        usage = Usage(uncached, usage.completion_tokens)
    return usage, listed


def tier_of(prompt_tokens: int, listed: Price) -> Rates:
    return [rates for rates in listed.tiers if rates.above_prompt_tokens < max(prompt_tokens, 1)][-1]


def exact(usage: Usage, listed: Price) -> tuple[Fraction, int]:
    """The unrounded cost and how many classes were billed, by a second, independent calculation."""
    rates = tier_of(usage.prompt_tokens, listed)
    parts = (
        (usage.uncached_tokens, rates.input),
        (usage.cache_read_tokens, rates.cache_read or 0),
        (usage.cache_write_5m_tokens, rates.cache_write_5m or 0),
        (usage.cache_write_1h_tokens, rates.cache_write_1h or 0),
        (usage.completion_tokens, rates.output),
    )
    return sum((Fraction(tokens * rate, 10**6) for tokens, rate in parts), Fraction(0)), sum(
        1 for tokens, rate in parts if tokens and rate
    )


@settings(max_examples=600, deadline=None)
@given(billed())
def test_cost_is_the_exact_sum_with_each_class_rounded_up_once(case: tuple[Usage, Price]) -> None:
    usage, listed = case

    fraction, classes = exact(usage, listed)

    assert fraction <= cost(usage, listed) < fraction + max(classes, 1)


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


def test_float_prices_would_be_noticed() -> None:
    """Negative control: the same comparison finds a cost that was computed with floats."""
    usage, listed = Usage(1_000_001, 3), price(Rates(0, 150_000_001, 600_000_007, None, None, None))
    in_floats = int((usage.prompt_tokens * 0.150000001 / 1e6 + usage.completion_tokens * 0.600000007 / 1e6) * 1e9)

    fraction, classes = exact(usage, listed)

    assert not fraction <= in_floats < fraction + classes
