"""Rows of a stock feed: each is read by itself, so that a bad one costs only itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from auterity_dagster.automatrix.ports import StockVehicle
from auterity_dagster.automatrix.vin import has_form
from auterity_dagster.money import nano_usd

_AMOUNT = re.compile(r"[0-9]{1,8}(?:\.[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class RowError:
    """One row that was not taken; `row` counts from 1."""

    row: int
    field: str
    reason: str


def _vin(text: str) -> str:
    vin = text.strip().upper()
    if not has_form(vin):
        raise ValueError("a VIN has 17 letters and digits without I, O and Q")
    return vin


def _amount(value: str | int) -> str:
    text = str(value)
    if _AMOUNT.fullmatch(text) is None:
        raise ValueError('a price is a decimal text such as "24990.00", or whole dollars')
    return text


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a text holds no control characters")
    return text


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_plain)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, str_strip_whitespace=True)

    stock_number: Annotated[str, Field(pattern=r"^[^\s:,]{1,32}$")]
    make: Name
    vehicle_model: Name
    vin: Annotated[str, AfterValidator(_vin)] | None = None
    year: Annotated[int, Field(ge=1900, le=2100)] | None = None
    trim: Name | None = None
    condition: Literal["new", "used"] | None = None
    status: Literal["available", "on hold", "sold"] = "available"
    total_price_usd: Annotated[str | int, AfterValidator(_amount)] | None = None


def read_rows(rows: Sequence[object]) -> tuple[tuple[StockVehicle, ...], tuple[RowError, ...]]:
    """Return the vehicles of the good rows, and for each bad one its number, field and reason."""
    vehicles: list[StockVehicle] = []
    errors: list[RowError] = []
    for number, row in enumerate(rows, start=1):
        try:
            vehicles.append(_vehicle(_Row.model_validate(row)))
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0]) if first["loc"] else "row"
            errors.append(RowError(number, field, str(first["msg"])))
    return tuple(vehicles), tuple(errors)


def named_by(rows: Sequence[object]) -> frozenset[str]:
    """Return every stock number that stands in a row, also in one that is not taken."""
    found = (cast("Mapping[object, object]", row) for row in rows if isinstance(row, Mapping))
    numbers = (row.get("stock_number") for row in found)
    return frozenset(number.strip() for number in numbers if isinstance(number, str))


def _vehicle(row: _Row) -> StockVehicle:
    price = row.total_price_usd
    return StockVehicle(
        stock_number=row.stock_number,
        vin=row.vin,
        year=row.year,
        make=row.make,
        vehicle_model=row.vehicle_model,
        trim=row.trim,
        condition=row.condition,
        status=row.status,
        price_nusd=None if price is None else nano_usd(str(price)),
    )
