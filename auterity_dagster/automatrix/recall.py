"""Open recalls: read from a dated CSV file, matched by VIN or by model and year; and how one may speak of them."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol
from uuid import UUID

from auterity_dagster.automatrix.vin import has_form
from auterity_dagster.errors import Invalid

Match = Literal["vin", "make_model_year", "none"]
TEXT_LIMIT = 4000
ROWS_LIMIT = 200_000
MAY_APPLY = "may apply to your vehicle; we will check your VIN"

_COLUMNS = {
    "campaign": ("campaign", "nhtsacampaignnumber", "nhtsaid", "campaignnumber"),
    "make": ("make",),
    "vehicle_model": ("vehiclemodel", "model"),
    "year": ("year", "modelyear"),
    "vin": ("vin",),
    "component": ("component",),
    "summary": ("summary", "recalldescription"),
    "consequence": ("consequence", "consequencesummary"),
    "remedy": ("remedy", "correctiveaction"),
    "reported_on": ("reportedon", "reportreceiveddate"),
}
_REQUIRED = ("campaign", "make", "vehicle_model", "year", "summary", "remedy")
# A recall that is claimed rather than announced as possible.
_CLAIMS = re.compile(
    r"\b(?:has|have|is|are|was)\b[^.!?]{0,40}\b(?:recall(?:s|ed)?)\b|\byour\b[^.!?]{0,60}\bunder recall\b",
    re.IGNORECASE,
)
_ALARM = re.compile(r"\b(?:danger(?:ous)?|deadly|urgent(?:ly)?|unsafe|act now|immediately)\b|!!", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Recall:
    """One campaign for one model year, or with a `vin` for that vehicle; texts are the authority's own words."""

    campaign: str
    make: str
    vehicle_model: str
    year: int
    vin: str | None
    component: str
    summary: str
    consequence: str
    remedy: str
    reported_on: date | None


@dataclass(frozen=True, slots=True)
class BadRecallRow:
    """A row that was not taken; `row` counts from 1 below the header."""

    row: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecallsFound:
    """What the table says of a vehicle, and which day's table it is."""

    campaigns: tuple[Recall, ...]
    match: Match
    as_of: date


class Recalls(Protocol):
    """The organization's dated table of recalls."""

    def find(
        self, organization_id: UUID, *, vin: str | None, make: str | None, vehicle_model: str | None, year: int | None
    ) -> RecallsFound | None:
        """Return what the table says, None if no table was ever imported."""
        ...


def read_recalls(text: str) -> tuple[tuple[Recall, ...], tuple[BadRecallRow, ...]]:
    """Read a CSV file with a header. Raises `Invalid` if a column is missing; a bad row costs only itself."""
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = next(rows, list[str]())
    places = _places(header)
    missing = [name for name in _REQUIRED if name not in places]
    if missing:
        raise Invalid(f"the file has no column for {', '.join(missing)}", field="header")
    taken: list[Recall] = []
    bad: list[BadRecallRow] = []
    try:
        for number, row in enumerate(rows, start=1):
            if number > ROWS_LIMIT:
                raise Invalid(f"the file has more than {ROWS_LIMIT} rows", field="rows")
            if any(cell.strip() for cell in row):
                values = {name: row[place].strip() if place < len(row) else "" for name, place in places.items()}
                found = _recall(values, number)
                if isinstance(found, Recall):
                    taken.append(found)
                else:
                    bad.append(found)
    except csv.Error as error:
        raise Invalid(f"the file is no CSV: {error}", field="rows") from error
    return tuple(taken), tuple(bad)


def name_key(name: str) -> str:
    """Return a make or vehicle model as it is compared: `CR-V`, `CRV` and `cr v` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


def sentence(match: Match) -> str:
    """Return what may be said about a match: only a VIN says that a vehicle has a recall."""
    if match == "vin":
        return "The manufacturer lists an open recall for your VIN. The repair is free of charge."
    return f"A recall {MAY_APPLY}. A repair is free of charge." if match == "make_model_year" else ""


def wording_violations(text: str, *, match: Match) -> tuple[str, ...]:
    """Return what a message may not say about recalls."""
    if "recall" not in text.casefold():
        return ()
    found = [f"recall_alarm: {one[0]}" for one in _ALARM.finditer(text)]
    if match != "vin":
        found += [f"recall_claimed: {one[0]}" for one in _CLAIMS.finditer(text)]
        if "may apply" not in text.casefold():
            found.append("recall_not_said_to_be_possible")
    return tuple(found)


def _places(header: Iterable[str]) -> Mapping[str, int]:
    keys = [name_key(cell) for cell in header]
    return {
        name: next(keys.index(one) for one in synonyms if one in keys)
        for name, synonyms in _COLUMNS.items()
        if any(one in keys for one in synonyms)
    }


def _recall(values: Mapping[str, str], number: int) -> Recall | BadRecallRow:
    for name in _REQUIRED:
        if not values[name]:
            return BadRecallRow(number, name, "is empty")
    for name, value in values.items():
        if len(value) > TEXT_LIMIT:
            return BadRecallRow(number, name, f"has more than {TEXT_LIMIT} characters")
    if not re.fullmatch(r"(?:19|20)[0-9]{2}", values["year"]):
        return BadRecallRow(number, "year", "a year such as 2021 was expected")
    vin = values.get("vin", "").upper() or None
    if vin is not None and not has_form(vin):
        return BadRecallRow(number, "vin", "a VIN has 17 letters and digits without I, O and Q")
    reported = values.get("reported_on", "")
    reported_on = _day(reported)
    if reported and reported_on is None:
        return BadRecallRow(number, "reported_on", "a day such as 31/12/2025 or 2025-12-31 was expected")
    return Recall(
        campaign=values["campaign"],
        make=values["make"],
        vehicle_model=values["vehicle_model"],
        year=int(values["year"]),
        vin=vin,
        component=values.get("component", ""),
        summary=values["summary"],
        consequence=values.get("consequence", ""),
        remedy=values["remedy"],
        reported_on=reported_on,
    )


def _day(written: str) -> date | None:
    """Read a day: the authority writes the day first."""
    for form in ("%d/%m/%Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(written, form).date()  # noqa: DTZ007 -- a day, not a moment
        except ValueError:
            continue
    return None
