"""Price lists: dated entries as `config/prices.yaml` writes them, read strictly, looked up by day."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from auterity_dagster.errors import ConfigurationInvalid, PriceUnknown
from auterity_dagster.money import nano_usd
from auterity_dagster.relaycore.pricing import Price, Rates
from auterity_dagster.relaycore.strict_yaml import mistakes_of, read_yaml, refused

MAX_ENTRIES = 5_000


@dataclass(frozen=True, slots=True)
class PriceList:
    """Every dated price, by key, the newest first."""

    prices: Mapping[str, tuple[Price, ...]]

    def in_force(self, price_key: str, at: datetime) -> Price:
        """Return the price in force on the day (UTC) of `at`. Raises `PriceUnknown`: such a call is refused."""
        day = at.astimezone(UTC).date()
        if (price := self.on(price_key, day)) is not None:
            return price
        raise PriceUnknown(
            f"No price is in force for {price_key} on {day.isoformat()}. The call was refused.", price_key=price_key
        )

    def on(self, price_key: str, day: date) -> Price | None:
        """Return the price in force on a day, or None."""
        return next((one for one in self.prices.get(price_key, ()) if one.in_force_from <= day), None)

    def with_own(self, own: Iterable[Price]) -> "PriceList":
        """Return the list with an organization's own prices in it: of the same day, its own one counts."""
        common = (price for dated in self.prices.values() for price in dated)
        return PriceList(by_key((*common, *own)))

    def all_in_force(self, at: datetime) -> Mapping[str, Price]:
        """Return every price in force on the day of `at`, by key; an entry that begins later is left out."""
        day = at.astimezone(UTC).date()
        begun = {key: [one for one in dated if one.in_force_from <= day] for key, dated in self.prices.items()}
        return {key: dated[0] for key, dated in begun.items() if dated}


def load_prices(path: Path) -> PriceList:
    """Read the price list. Raises `ConfigurationInvalid` with the file, the place and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: {error.strerror}") from error
    return PriceList(by_key(parse_prices(text, source=str(path))))


def parse_prices(text: str, *, source: str) -> tuple[Price, ...]:
    """Read prices from a text; `source` is what messages call it. Raises `ConfigurationInvalid`."""
    return tuple(entry.price() for entry in parse_entries(text, source=source))


def parse_entries(text: str, *, source: str) -> "tuple[PriceEntry, ...]":
    """Read the same as it is written."""
    try:
        return _File.model_validate(read_yaml(text, source=source)).prices
    except ValidationError as error:
        raise refused(source, *mistakes_of(error)) from error


def by_key(prices: Iterable[Price]) -> Mapping[str, tuple[Price, ...]]:
    """Return prices by key, the newest first; of two for the same day the later of the sequence counts."""
    found: dict[str, dict[date, Price]] = {}
    for price in prices:
        found.setdefault(price.key, {})[price.in_force_from] = price
    return {key: tuple(dated[day] for day in sorted(dated, reverse=True)) for key, dated in found.items()}


def _whole_nano_dollars(dollars: str) -> str:
    nano_usd(dollars)
    return dollars


# Quoted in the file: an unquoted 0.1 would have been a float before we ever saw it.
_Dollars = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?$"),
    AfterValidator(_whole_nano_dollars),
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Tier(_Strict):
    """Dollars per million tokens; applies to calls with more prompt tokens than `above_prompt_tokens`."""

    above_prompt_tokens: int = Field(default=0, ge=0, strict=True)
    input: _Dollars
    output: _Dollars
    cache_read: _Dollars | None = None
    cache_write_5m: _Dollars | None = None
    cache_write_1h: _Dollars | None = None

    def rates(self) -> Rates:
        return Rates(
            above_prompt_tokens=self.above_prompt_tokens,
            input=nano_usd(self.input),
            output=nano_usd(self.output),
            cache_read=_optional(self.cache_read),
            cache_write_5m=_optional(self.cache_write_5m),
            cache_write_1h=_optional(self.cache_write_1h),
        )


class PriceEntry(_Strict):
    """One dated entry as it is written; it never changes, so its digest stands for it in holds and settlements."""

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$")
    in_force_from: date = Field(ge=date(2000, 1, 1), lt=date(2100, 1, 1))
    source: str = Field(min_length=10)
    free: Literal[True] | None = None
    usd_per_mtok: tuple[_Tier, ...] = ()

    @model_validator(mode="after")
    def _tiers_rise_from_zero(self) -> "PriceEntry":
        if (self.free is None) == (not self.usd_per_mtok):
            raise ValueError(f"{self.key}: give either `usd_per_mtok` or `free: true`")
        thresholds = [tier.above_prompt_tokens for tier in self.usd_per_mtok]
        if thresholds and (thresholds[0] != 0 or sorted(set(thresholds)) != thresholds):
            raise ValueError(f"{self.key}: `above_prompt_tokens` must start at 0 and rise")
        return self

    def price(self) -> Price:
        """Return the price that it says, in whole nano-dollars."""
        nothing = Rates(0, input=0, output=0, cache_read=0, cache_write_5m=0, cache_write_1h=0)
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return Price(
            key=self.key,
            in_force_from=self.in_force_from,
            tiers=tuple(tier.rates() for tier in self.usd_per_mtok) or (nothing,),
            digest=hashlib.sha256(content.encode()).hexdigest(),
            source=self.source,
        )


class _File(_Strict):
    version: Literal[1]
    prices: tuple[PriceEntry, ...] = Field(max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _one_price_a_day(self) -> "_File":
        days = [(entry.key, entry.in_force_from) for entry in self.prices]
        twice = sorted({f"{key} from {day.isoformat()}" for key, day in days if days.count((key, day)) > 1})
        if twice:
            raise ValueError(f"two entries for {', '.join(twice)}")
        return self


def _optional(dollars: str | None) -> int | None:
    return None if dollars is None else nano_usd(dollars)
