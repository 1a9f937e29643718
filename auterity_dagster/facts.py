"""The FACTS block of a prompt: written by workflows and corpora, read back by scorers and checks.

One fact a line. A value never brings a line of its own: white space is folded and commas, which separate the parts
of a line, become blanks, so nothing that a stranger typed into a feed can pose as another fact.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from auterity_dagster.errors import Invalid
from auterity_dagster.money import NanoUsd, in_usd, nano_usd

Condition = Literal["new", "used"]
Availability = Literal["available", "on hold", "sold"]

_CONDITIONS: tuple[Condition, ...] = ("new", "used")
_AVAILABILITIES: tuple[Availability, ...] = ("available", "on hold", "sold")
_NOTHING_FITS = "nothing in stock fits this request"
# Said outright: a small model asked for a price that is merely absent makes one up.
_NO_PRICE = "price not listed"
_STOCK_NUMBER = re.compile(r"[^\s:,]{1,32}")
_VEHICLE = re.compile(
    rf"stock (?P<stock_number>{_STOCK_NUMBER.pattern}): (?P<title>[^,]+)"
    rf"(?:, (?P<condition>{'|'.join(_CONDITIONS)}))?, (?P<availability>{'|'.join(_AVAILABILITIES)})"
    rf"(?:, total price \$(?P<price>\d[\d,]*(?:\.\d+)?)|, {_NO_PRICE})?"
)


@dataclass(frozen=True, slots=True)
class VehicleFact:
    """One vehicle of the stock; `title` is year, make, vehicle model and trim as the line shows them."""

    stock_number: str
    title: str
    condition: Condition | None
    availability: Availability
    price_nusd: NanoUsd | None

    @property
    def line(self) -> str:
        """The fact as it stands in a prompt, without the leading dash."""
        parts = [f"stock {self.stock_number}: {self.title}"]
        if self.condition is not None:
            parts.append(self.condition)
        parts.append(self.availability)
        parts.append(_NO_PRICE if self.price_nusd is None else f"total price {price_text(self.price_nusd)}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """What is due for one customer's vehicle."""

    vehicle: str
    due: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a reply may state. `times` are what the dealership offers; `other` holds lines of no known form."""

    vehicles: tuple[VehicleFact, ...] = ()
    is_nothing_fitting: bool = False
    service: ServiceFact | None = None
    hours: str | None = None
    times: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


def vehicle_fact(
    *,
    stock_number: str,
    year: int | None,
    make: str,
    vehicle_model: str,
    trim: str | None,
    condition: Condition | None,
    availability: Availability,
    price_nusd: NanoUsd | None,
) -> VehicleFact:
    """Return one stock vehicle as a fact. Raises `Invalid` for a stock number with blanks, commas or colons."""
    if not _STOCK_NUMBER.fullmatch(stock_number):
        raise Invalid(
            f"{stock_number!r} is no stock number: 1-32 characters without blanks, commas, colons", field="stock_number"
        )
    title = _folded(" ".join(part for part in (str(year or ""), make, vehicle_model, trim or "") if part))
    return VehicleFact(stock_number, title, condition, availability, price_nusd)


def sales_facts(
    vehicles: Iterable[VehicleFact], *, hours: str | None = None, appointment_times: Iterable[str] = ()
) -> str:
    """Return the FACTS of a sales prompt; without a vehicle it says that nothing in stock fits."""
    listed = tuple(vehicles)
    return facts_text(
        Facts(vehicles=listed, is_nothing_fitting=not listed, hours=hours, times=tuple(appointment_times))
    )


def service_facts(*, vehicle: str, due: str, times: Iterable[str]) -> str:
    """Return the FACTS of a service prompt."""
    return facts_text(Facts(service=ServiceFact(vehicle, due), times=tuple(times)))


def facts_text(facts: Facts) -> str:
    """Write a FACTS block, one `- ` line a fact; `parse_facts` reads back exactly what this wrote."""
    lines = [vehicle.line for vehicle in facts.vehicles]
    if facts.is_nothing_fitting:
        lines.append(_NOTHING_FITS)
    if facts.service is not None:
        lines += [f"vehicle: {_folded(facts.service.vehicle)}", f"due: {_line(facts.service.due)}"]
    if facts.hours is not None:
        lines.append(f"hours: {_line(facts.hours)}")
    if facts.times:
        label = "times" if facts.service is not None else "appointment times"
        lines.append(f"{label}: {' or '.join(_line(time) for time in facts.times)}")
    lines += [_line(line) for line in facts.other]
    return "\n".join(f"- {line}" for line in lines)


def parse_facts(text: str) -> Facts:
    """Read a FACTS block, or a whole user prompt that has one.

    Of a prompt only the dashed lines directly below its first line `FACTS` count: what a customer wrote further down
    is never a fact, whatever it looks like.
    """
    vehicles: list[VehicleFact] = []
    other: list[str] = []
    found: dict[str, str] = {}
    is_nothing_fitting = False
    for line in _fact_lines(text):
        label, _, value = line.partition(": ")
        if match := _VEHICLE.fullmatch(line):
            vehicles.append(_vehicle(match))
        elif line == _NOTHING_FITS:
            is_nothing_fitting = True
        elif label in ("vehicle", "due", "hours", "times", "appointment times") and value and label not in found:
            found[label] = value
        else:
            other.append(line)
    times = found.get("times") or found.get("appointment times")
    return Facts(
        vehicles=tuple(vehicles),
        is_nothing_fitting=is_nothing_fitting,
        service=ServiceFact(found.get("vehicle", ""), found.get("due", ""))
        if found.keys() & {"vehicle", "due"}
        else None,
        hours=found.get("hours"),
        times=tuple(times.split(" or ")) if times else (),
        other=tuple(other),
    )


def price_text(price_nusd: NanoUsd) -> str:
    """Write a price as facts and replies show it: `$36,310`, or with cents where there are any."""
    whole, fraction = in_usd(price_nusd).split(".")
    return f"${int(whole):,}" + (f".{fraction}" if fraction.strip("0") else "")


def _fact_lines(text: str) -> list[str]:
    lines = text.splitlines()
    start = lines.index("FACTS") + 1 if "FACTS" in lines else 0
    facts: list[str] = []
    for line in lines[start:]:
        if not line.startswith("- "):
            break
        facts.append(line[2:])
    return facts


def _vehicle(match: re.Match[str]) -> VehicleFact:
    price = match["price"]
    return VehicleFact(
        stock_number=match["stock_number"],
        title=match["title"],
        condition=next((one for one in _CONDITIONS if one == match["condition"]), None),
        availability=next(one for one in _AVAILABILITIES if one == match["availability"]),
        price_nusd=nano_usd(price.replace(",", "")) if price else None,
    )


def _line(value: str) -> str:
    return " ".join(value.split())


def _folded(value: str) -> str:
    return _line(value.replace(",", " "))
