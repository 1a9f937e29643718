"""What a VIN says about a vehicle, from the public vPIC tables that `ultravin` carries: offline, 50 µs."""

from dataclasses import dataclass
from typing import cast

import ultravin

from auterity_dagster.automatrix.vin import read_vin

FORM = 6
"""The tables' own code for a VIN of the wrong length."""


@dataclass(frozen=True, slots=True)
class DecodedVin:
    """`error_codes` are vPIC's, `(0,)` is clean; a check digit is mandatory in North America only: it warns."""

    vin: str | None
    make: str | None
    vehicle_model: str | None
    year: int | None
    trim: str | None
    body: str | None
    is_check_digit_valid: bool
    error_codes: tuple[int, ...]
    suggestion: str | None


def decode_vin(written: str, *, year: int | None) -> DecodedVin:
    """Decode a VIN as written. One that has not the form of a VIN gives no attributes, and never an error.

    `year` decides between two model years that a VIN may stand for. Names are as the tables write them (`HONDA`).
    """
    reading = read_vin(written)
    if reading.vin is None:
        return DecodedVin(None, None, None, None, None, None, False, (FORM,), reading.suggestion)
    decoded = ultravin.decode(reading.vin, year=year)
    attributes = cast("dict[str, str]", decoded["attributes"])
    return DecodedVin(
        vin=reading.vin,
        make=attributes.get("Make") or None,
        vehicle_model=attributes.get("Model") or None,
        year=cast("int | None", decoded["model_year"]),
        trim=attributes.get("Trim") or None,
        body=attributes.get("Body Class") or None,
        is_check_digit_valid=reading.is_check_digit_right,
        error_codes=tuple(cast("list[int]", decoded["error_codes"])),
        suggestion=reading.suggestion,
    )
