"""One wanted vehicle from its draft: year, VIN, odometer and price as values, or left out and flagged."""

import re
from datetime import datetime

from auterity_dagster.automatrix.lead import Condition, Interest, OdometerUnit, WantedVehicle
from auterity_dagster.automatrix.lead_draft import VehicleDraft
from auterity_dagster.automatrix.vin import read_vin
from auterity_dagster.money import NanoUsd, nano_usd

_INTERESTS: dict[str, Interest] = {
    "buy": "buy", "lease": "lease", "sell": "sell", "trade-in": "trade-in", "test-drive": "test-drive",
}  # fmt: skip
_CONDITIONS: dict[str, Condition] = {"new": "new", "used": "used"}
_UNITS: dict[str, OdometerUnit] = {"mi": "mi", "miles": "mi", "": "mi", "km": "km", "kilometers": "km"}
_AMOUNT = re.compile(r"\$?\s?([0-9]{1,3}(?:,[0-9]{3}){1,2}|[0-9]{1,8})(\.[0-9]{1,2})?(?:\s?USD)?", re.IGNORECASE)


def wanted_vehicle(draft: VehicleDraft, *, received_at: datetime, flags: set[str]) -> WantedVehicle | None:
    """Return the vehicle, adding its flags, or None if nothing usable was said about it."""
    said = (draft.year, draft.make, draft.vehicle_model, draft.trim, draft.stock_number, draft.vin, draft.comments)
    if not any(said):
        return None
    year = _year(draft.year, received_at=received_at, flags=flags)
    reading = read_vin(draft.vin) if draft.vin else None
    if reading is not None and reading.vin is None:
        flags.add("vin_invalid")
    elif reading is not None and not reading.is_check_digit_right:
        flags.add("vin_check_digit")
    odometer = _whole_number(draft.odometer)
    price_nusd = _price(draft)
    return WantedVehicle(
        interest=_INTERESTS.get(draft.interest.strip().lower(), "buy"),
        status=_CONDITIONS.get(draft.status.strip().lower(), "new"),
        year=year,
        make=draft.make or None,
        vehicle_model=draft.vehicle_model or None,
        trim=draft.trim or None,
        stock_number=draft.stock_number or None,
        vin=reading.vin if reading else None,
        is_vin_confirmed=reading is not None and reading.is_check_digit_right,
        vin_raw=draft.vin if reading and reading.vin is None else None,
        vin_suggestion=reading.suggestion if reading else None,
        odometer=odometer,
        odometer_unit=_UNITS.get(draft.odometer_unit.strip().lower()) if odometer is not None else None,
        price_nusd=price_nusd,
        price_type=draft.price_type.lower() or None if price_nusd is not None else None,
        price_comments=draft.price_comments or None,
        comments=draft.comments or None,
    )


def _year(written: str, *, received_at: datetime, flags: set[str]) -> int | None:
    if not re.fullmatch(r"[0-9]{4}|'?[0-9]{2}", written):
        return None
    if len(written) == 4:
        return int(written)
    flags.add("year_repaired")
    year = 2000 + int(written[-2:])
    return year if year <= received_at.year + 2 else year - 100


def _whole_number(written: str) -> int | None:
    found = re.match(r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,9})(?![0-9,])", written)
    return int(found[1].replace(",", "")) if found else None


def _price(draft: VehicleDraft) -> NanoUsd | None:
    """The amount, if it is in US dollars: the feed's price is the one that counts, so no rate is guessed."""
    found = _AMOUNT.fullmatch(draft.price)
    if found is None or draft.price_currency.upper() not in {"", "USD"}:
        return None
    return nano_usd(found[1].replace(",", "") + (found[2] or ""))
