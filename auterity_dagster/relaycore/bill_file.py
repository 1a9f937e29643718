"""A provider's bill as a file, CSV with a header or one JSON object a line; amounts are dollars or nano-dollars."""

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, cast

from auterity_dagster.errors import Invalid
from auterity_dagster.money import NanoUsd, nano_usd
from auterity_dagster.relaycore.reconciliation import BillLine

ID_COLUMNS = ("provider_request_id", "request_id", "id")
DAY_COLUMNS = ("day", "date")


def read_bill(lines: Iterable[str], *, is_csv: bool) -> tuple[BillLine, ...]:
    """Return the bill's lines. Raises `Invalid` with the number of the line that cannot be read, never with its text.

    A line names its request, or a model and where known the day; and `cost_usd` (exact decimal) or `cost_nusd`.
    """
    records = csv.DictReader(lines) if is_csv else (_object(line, number) for number, line in _numbered(lines))
    return tuple(_line(record, number) for number, record in enumerate(records, start=1))


def _numbered(lines: Iterable[str]) -> Iterable[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _object(line: str, number: int) -> Mapping[str, Any]:
    try:
        record: object = json.loads(line)
    except json.JSONDecodeError as error:
        raise Invalid(f"Line {number} of the bill is not JSON") from error
    if not isinstance(record, dict):
        raise Invalid(f"Line {number} of the bill is not an object")
    return cast(Mapping[str, Any], record)


def _line(record: Mapping[str, Any], number: int) -> BillLine:
    request_id = next((str(record[name]) for name in ID_COLUMNS if record.get(name)), None)
    day = next((str(record[name]) for name in DAY_COLUMNS if record.get(name)), None)
    model = record.get("model")
    if request_id is None and not model:
        raise Invalid(f"Line {number} of the bill names neither a request nor a model")
    try:
        return BillLine(
            provider_request_id=request_id,
            day=None if day is None else date.fromisoformat(day),
            model=str(model) if model else None,
            cost_nusd=_cost(record),
        )
    except (KeyError, ValueError, TypeError, Invalid) as error:
        raise Invalid(f"Line {number} of the bill has no amount or day that can be read") from error


def _cost(record: Mapping[str, Any]) -> NanoUsd:
    if record.get("cost_nusd") not in (None, ""):
        text = record["cost_nusd"]
        if isinstance(text, float):
            raise TypeError("nano-dollars are whole")
        return int(text)
    dollars = record["cost_usd"]
    if not isinstance(dollars, str):
        raise TypeError("dollars are written as a decimal string")
    return nano_usd(dollars)
