"""What a new dated price changes, and whether a second person has to approve it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from auterity_dagster.relaycore.price_list import PriceEntry, PriceList
from auterity_dagster.relaycore.pricing import Price, Rates, rates_at

APPROVAL_ABOVE_PERCENT = 20
"""A price that changes by more than this takes effect only when another person approves it."""


@dataclass(frozen=True, slots=True)
class PriceChange:
    """An entry beside what it replaces: `before` is the price in force on its day without it.

    `change_percent` is the largest change of any rate at any prompt size, rounded up; None where there is nothing to
    compare with: a new key, a class of tokens that had no rate, a price of 0.
    """

    entry: PriceEntry
    price: Price
    before: Price | None
    change_percent: int | None

    @property
    def needs_approval(self) -> bool:
        """True if one person is not enough."""
        return self.change_percent is None or self.change_percent > APPROVAL_ABOVE_PERCENT


def price_changes(entries: Iterable[PriceEntry], listed: PriceList, *, today: date) -> tuple[PriceChange, ...]:
    """Return what each entry changes, in order of their days.

    An entry is held against the price of its own day, against that of the day before, and against today's: neither
    a chain of small steps nor an entry that replaces another one adds up to a large change that nobody approved.
    """
    changes: list[PriceChange] = []
    for entry in sorted(entries, key=lambda one: (one.in_force_from, one.key)):
        price = entry.price()
        days = (entry.in_force_from, entry.in_force_from - timedelta(days=1), today)
        befores = [listed.on(entry.key, day) for day in days]
        percents = [_change_percent(before, price) for before in befores]
        known = [one for one in percents if one is not None]
        largest = max(known) if len(known) == len(percents) else None
        changes.append(PriceChange(entry, price, befores[0], largest))
        listed = listed.with_own((price,))
    return tuple(changes)


def _change_percent(before: Price | None, after: Price) -> int | None:
    if before is None:
        return None
    sizes = {rates.above_prompt_tokens + 1 for rates in (*before.tiers, *after.tiers)}
    changes = [_largest(rates_at(size, before), rates_at(size, after)) for size in sizes]
    known = [one for one in changes if one is not None]
    return max(known) if len(known) == len(changes) else None


def _largest(before: Rates, after: Rates) -> int | None:
    """The largest change of a class in percent, rounded up."""
    largest = 0
    for was, becomes in zip(_classes(before), _classes(after), strict=True):
        if was == becomes:
            continue
        if not was or becomes is None:
            return None
        largest = max(largest, -(-abs(becomes - was) * 100 // was))
    return largest


def _classes(rates: Rates) -> tuple[int | None, ...]:
    return rates.input, rates.output, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h
