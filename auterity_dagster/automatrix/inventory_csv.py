"""A stock feed as a CSV file: its header says which column is what, and each row is read by itself."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from auterity_dagster.automatrix.inventory_row import RowError, named_by, read_rows
from auterity_dagster.automatrix.ports import StockVehicle
from auterity_dagster.errors import Invalid

BYTE_LIMIT = 8 * 1024 * 1024
ROW_LIMIT = 20_000
CELL_LIMIT = 10_000

COLUMNS: Mapping[str, frozenset[str]] = {
    "stock_number": frozenset({"stocknumber", "stock", "stockno", "stocknr", "stockid"}),
    "make": frozenset({"make", "manufacturer"}),
    "vehicle_model": frozenset({"vehiclemodel", "model", "modelname"}),
    "vin": frozenset({"vin", "vinnumber"}),
    "year": frozenset({"year", "modelyear"}),
    "trim": frozenset({"trim", "trimlevel"}),
    "condition": frozenset({"condition", "newused", "type"}),
    "status": frozenset({"status", "availability"}),
    "total_price_usd": frozenset({"totalpriceusd", "totalprice", "outthedoorprice", "otdprice"}),
}
"""What dealers' systems call each field, without spaces and signs. A list price is no total price and is not taken."""

REQUIRED = ("stock_number", "make", "vehicle_model")
_WORDS: Mapping[str, Mapping[str, str]] = {
    "condition": {"n": "new", "u": "used", "cpo": "used", "certified": "used"},
    "status": {"in stock": "available", "instock": "available", "hold": "on hold", "on-hold": "on hold"},
}


@dataclass(frozen=True, slots=True)
class CsvFeed:
    """What the file has; an error's `row` is the line of the file on which the row ends, the header's being 1.

    `named` are the stock numbers of all its rows, those of the bad ones too.
    """

    vehicles: tuple[StockVehicle, ...]
    named: frozenset[str]
    errors: tuple[RowError, ...]
    unread_columns: tuple[str, ...]


def read_csv_feed(raw: bytes) -> CsvFeed:
    """Read a file in UTF-8 or Windows-1252 with commas, semicolons or tabs.

    Raises `Invalid` if it is no such file: too large, without the columns that are needed, or with two for one field.
    """
    if len(raw) > BYTE_LIMIT:
        raise Invalid(f"the file has {len(raw)} bytes, {BYTE_LIMIT} are allowed", field="file")
    text = _text(raw)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    csv.field_size_limit(CELL_LIMIT)
    try:
        header = next(reader, list[str]())
        fields = _fields(header)
        lines: list[int] = []
        rows: list[object] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) == ROW_LIMIT:
                raise Invalid(f"the file has more than {ROW_LIMIT} rows", field="file")
            lines.append(reader.line_num)
            rows.append(_row(cells, fields, width=len(header)))
    except csv.Error as error:
        raise Invalid(f"line {reader.line_num} is no CSV: {error}", field="file") from error
    vehicles, errors = read_rows(rows)
    unread = tuple(name for position, name in enumerate(header) if position not in fields and name.strip())
    placed = tuple(RowError(lines[one.row - 1], one.field, one.reason) for one in errors)
    return CsvFeed(vehicles, named_by(rows), placed, unread)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    if "\x00" in text:
        raise Invalid("the file holds NUL characters: export it as CSV, not as a spreadsheet", field="file")
    return text


def _delimiter(text: str) -> str:
    head = text.partition("\n")[0]
    return max(",;\t", key=head.count)


def _fields(header: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for position, name in enumerate(header):
        plain = re.sub(r"[^a-z]", "", name.lower())
        field = next((one for one, names in COLUMNS.items() if plain in names), None)
        if field is not None and field in found.values():
            raise Invalid(f"two columns are {field}; the second is {name!r}", field="header")
        if field is not None:
            found[position] = field
    missing = [one for one in REQUIRED if one not in found.values()]
    if missing:
        raise Invalid(f"the header has no column for {', '.join(missing)}; it has {', '.join(header)}", field="header")
    return found


def _row(cells: list[str], fields: Mapping[int, str], *, width: int) -> object:
    """Return the row as the feed's JSON would have it; one with other columns than the header is none."""
    if len(cells) != width:
        return f"{len(cells)} cells under {width} columns"
    row: dict[str, object] = {}
    for position, field in fields.items():
        cell = cells[position].strip()
        if cell:
            row[field] = _value(field, cell)
    return row


def _value(field: str, cell: str) -> object:
    if field == "year" and cell.isdecimal() and cell.isascii():
        return int(cell[:9])
    if field == "total_price_usd":
        return re.sub(r"[$,\s]", "", cell)
    if field in _WORDS:
        lowered = cell.lower()
        return _WORDS[field].get(lowered, lowered)
    return cell
