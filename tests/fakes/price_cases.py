"""Prices and usages at random, and what they cost by a second, independent calculation in fractions."""

import random
from datetime import date
from fractions import Fraction

from hypothesis import strategies as st

from auterity_dagster.relaycore.pricing import Price, Rates, Usage

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


def is_exact(cost_nusd: int, usage: Usage, listed: Price) -> bool:
    """Whether a cost is the exact sum with each class of tokens rounded up once."""
    fraction, classes = exact(usage, listed)
    return fraction <= cost_nusd < fraction + max(classes, 1)


def seeded_case(chance: random.Random) -> tuple[Usage, Price]:
    """A usage and a price that names every class, from a seed: a hundred times cheaper than Hypothesis's."""
    rates = [Rates(0, *(chance.randrange(200 * 10**9) for _ in range(5)))]
    if chance.random() < 0.5:
        rates.append(Rates(chance.randrange(1, 10**6), *(chance.randrange(200 * 10**9) for _ in range(5))))
    read, short, long = (chance.randrange(10**6) if chance.random() < 0.5 else 0 for _ in range(3))
    usage = Usage(read + short + long + chance.randrange(10**6), chance.randrange(10**6), read, short, long)
    return usage, price(*rates)
