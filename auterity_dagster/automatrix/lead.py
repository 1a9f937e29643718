"""A lead as AutoMatrix knows it, whichever wire it came on; every text in it was written by a stranger."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from auterity_dagster.money import NanoUsd

LeadStatus = Literal["new", "resend"]
Interest = Literal["buy", "lease", "sell", "trade-in", "test-drive"]
Condition = Literal["new", "used"]
PhoneKind = Literal["voice", "mobile", "home", "work", "fax", "pager"]
OdometerUnit = Literal["mi", "km"]


@dataclass(frozen=True, slots=True)
class Phone:
    """A number in E.164; nobody texts or calls a `fax` or `pager`."""

    number: str
    kind: PhoneKind
    extension: str | None = None
    best_time: str | None = None
    is_preferred: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; streets are joined with commas."""

    street: str | None = None
    apartment: str | None = None
    city: str | None = None
    region: str | None = None
    postal_code: str | None = None
    country: str | None = None


@dataclass(frozen=True, slots=True)
class WantedVehicle:
    """A vehicle a customer asks for or brings.

    `vin` has the right form; `is_vin_confirmed` says that its check digit fits as well. `vin_raw` is a VIN that cannot
    be one, as it was written, with a suggestion where exchanging look-alike letters gives a valid one.
    """

    interest: Interest
    status: Condition
    year: int | None = None
    make: str | None = None
    vehicle_model: str | None = None
    trim: str | None = None
    stock_number: str | None = None
    vin: str | None = None
    is_vin_confirmed: bool = False
    vin_raw: str | None = None
    vin_suggestion: str | None = None
    odometer: int | None = None
    odometer_unit: OdometerUnit | None = None
    price_nusd: NanoUsd | None = None
    price_type: str | None = None
    price_comments: str | None = None
    comments: str | None = None


@dataclass(frozen=True, slots=True)
class Timeframe:
    """When the customer means to buy, in the sender's own words and dates."""

    description: str | None = None
    earliest_date: str | None = None
    latest_date: str | None = None


@dataclass(frozen=True, slots=True)
class VaultedValue:
    """A credit value taken out of a text before anything else read it; `field` is where it stood."""

    kind: str
    value: str
    field: str


@dataclass(frozen=True, slots=True)
class Extra:
    """Something the wire's definition does not know, kept as it was written."""

    name: str
    parent: str
    text: str


@dataclass(frozen=True, slots=True)
class Lead:
    """One person or company that wants something of a dealership."""

    dedupe_key: str
    status: LeadStatus
    requested_at: datetime
    dealership_name: str | None
    provider: str | None
    name: str
    is_business: bool
    emails: tuple[str, ...]
    phones: tuple[Phone, ...]
    unusable_addresses: tuple[str, ...]
    address: Address | None
    vehicles: tuple[WantedVehicle, ...]
    timeframe: Timeframe | None
    comments: str
    extras: tuple[Extra, ...]
    vaulted: tuple[VaultedValue, ...]
    flags: tuple[str, ...]

    @property
    def channel(self) -> Literal["sms", "email"] | None:
        """How to answer: by text to a mobile the sender prefers or where there is no e-mail, else by e-mail."""
        mobiles = [phone for phone in self.phones if phone.kind == "mobile"]
        if mobiles and (not self.emails or any(phone.is_preferred for phone in mobiles)):
            return "sms"
        return "email" if self.emails else None


@dataclass(frozen=True, slots=True)
class RejectedLead:
    """A prospect that nobody can answer; `dedupe_key` is None where the sender gave no id."""

    reason: str
    dedupe_key: str | None


ReadLead = Lead | RejectedLead
