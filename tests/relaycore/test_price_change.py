"""What a new price changes, and when one person is not enough."""

from datetime import date
from pathlib import Path

import pytest

from auterity_dagster.relaycore.price_change import PriceChange, price_changes
from auterity_dagster.relaycore.price_list import PriceList, by_key, load_prices, parse_entries

TODAY = date(2026, 11, 30)
LISTED = load_prices(Path(__file__).parents[2] / "config" / "prices.yaml")
OLD = '{input: "1.00", output: "5.00", cache_read: "0.10"}'


def entry(rates: str, *, day: str = "2026-12-01", key: str = "own/model") -> str:
    return f"""
  - key: {key}
    in_force_from: {day}
    source: a letter of the provider
    usd_per_mtok: [{rates}]"""


def changes(*entries: str, listed: PriceList | None = None) -> tuple[PriceChange, ...]:
    before = parse_entries(f"version: 1\nprices:{entry(OLD, day='2026-01-01')}", source="before")
    listed = listed or PriceList(by_key(one.price() for one in before))
    written = parse_entries(f"version: 1\nprices:{''.join(entries)}", source="import")
    return price_changes(written, listed, today=TODAY)


@pytest.mark.parametrize(
    ("rates", "percent", "needs_approval"),
    [
        ('{input: "1.00", output: "5.00", cache_read: "0.10"}', 0, False),
        ('{input: "1.20", output: "5.00", cache_read: "0.10"}', 20, False),
        ('{input: "0.80", output: "5.00", cache_read: "0.10"}', 20, False),
        ('{input: "1.200000001", output: "5.00", cache_read: "0.10"}', 21, True),
        ('{input: "1.00", output: "1.00", cache_read: "0.10"}', 80, True),
        ('{input: "1.00", output: "5.00"}', None, True),
        ('{input: "1.00", output: "5.00", cache_read: "0.10", cache_write_5m: "1.00"}', None, True),
        (OLD + ', {above_prompt_tokens: 1000, input: "2.00", output: "5.00", cache_read: "0.10"}', 100, True),
    ],
    ids=["same", "a fifth up", "a fifth down", "a hair more", "output", "class gone", "class new", "upper tier"],
)
def test_the_largest_change_of_a_rate_decides(rates: str, percent: int | None, needs_approval: bool) -> None:
    [change] = changes(entry(rates))

    assert (change.change_percent, change.needs_approval) == (percent, needs_approval)


def test_a_new_key_is_never_one_persons() -> None:
    [change] = changes(entry(OLD, key="own/other"))

    assert (change.before, change.needs_approval) == (None, True)


def test_a_chain_of_small_steps_is_held_against_todays_price() -> None:
    steps = [
        entry(f'{{input: "{price}", output: "5.00", cache_read: "0.10"}}', day=f"2026-12-0{day}")
        for day, price in ((1, "1.20"), (2, "1.40"))
    ]

    assert [one.change_percent for one in changes(*steps)] == [20, 40]


def test_an_entry_of_the_same_day_stands_beside_the_one_that_it_replaces() -> None:
    price = LISTED.on("sandbox/small", TODAY)
    assert price is not None
    [rates] = price.tiers

    [change] = changes(
        entry('{input: "9.00", output: "9.00"}', day=price.in_force_from.isoformat(), key=price.key), listed=LISTED
    )

    assert change.before == price
    assert rates.input != change.price.tiers[0].input
    assert change.needs_approval
    assert LISTED.with_own([change.price]).on(price.key, TODAY) == change.price
