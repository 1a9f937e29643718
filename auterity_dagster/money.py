"""Money: integer nano-US-dollars, parsed from decimal strings and never touched by a float."""

from decimal import Decimal, InvalidOperation

from auterity_dagster.errors import Invalid

NanoUsd = int
"""Nano-US-dollars: 1 USD = 1,000,000,000. Signed where a ledger entry is."""

NANO_USD_PER_USD = 1_000_000_000


def nano_usd(dollars: str) -> NanoUsd:
    """Parse a decimal dollar string such as `"0.15"` exactly.

    Raises `Invalid` for anything that is not a finite decimal or that is finer than a nano-dollar.
    """
    try:
        amount = Decimal(dollars)
    except InvalidOperation as error:
        raise Invalid(f"{dollars!r} is not a decimal dollar amount such as '0.15'") from error
    scaled = amount * NANO_USD_PER_USD
    if not amount.is_finite() or scaled != scaled.to_integral_value():
        raise Invalid(f"{dollars!r} is not a finite dollar amount of whole nano-dollars")
    return int(scaled)


def in_usd(amount_nusd: NanoUsd) -> str:
    """Write an amount as a decimal dollar string, without trailing zeros beyond cents: `"0.15"`, `"0.000123"`."""
    sign = "-" if amount_nusd < 0 else ""
    whole, nano = divmod(abs(amount_nusd), NANO_USD_PER_USD)
    fraction = f"{nano:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{fraction}"
