"""What a wire says about one lead, in the sender's own words: both readers fill it, one rule judges it."""

from dataclasses import dataclass, field

from auterity_dagster.automatrix.lead import Extra


@dataclass(frozen=True, slots=True)
class PhoneDraft:
    """A phone number as written, with the sender's type for it."""

    written: str
    kind: str = ""
    best_time: str = ""
    is_preferred: bool = False


@dataclass(frozen=True, slots=True)
class VehicleDraft:
    """A vehicle as written; empty text means that nothing was said."""

    interest: str = ""
    status: str = ""
    year: str = ""
    make: str = ""
    vehicle_model: str = ""
    trim: str = ""
    stock_number: str = ""
    vin: str = ""
    odometer: str = ""
    odometer_unit: str = ""
    price: str = ""
    price_type: str = ""
    price_currency: str = ""
    price_comments: str = ""
    comments: str = ""


@dataclass(frozen=True, slots=True)
class AddressDraft:
    """A postal address as written."""

    streets: tuple[str, ...] = ()
    apartment: str = ""
    city: str = ""
    region: str = ""
    postal_code: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True)
class LeadDraft:
    """One prospect as written; `scheme` (`adf`, `json`) begins its key."""

    scheme: str
    sender_id: str = ""
    status: str = ""
    request_time: str = ""
    dealership_name: str = ""
    provider: str = ""
    name: str = ""
    is_business: bool = False
    emails: tuple[str, ...] = ()
    phones: tuple[PhoneDraft, ...] = ()
    address: AddressDraft = field(default_factory=AddressDraft)
    vehicles: tuple[VehicleDraft, ...] = ()
    timeframe: tuple[str, str, str] = ("", "", "")
    comments: str = ""
    extras: tuple[Extra, ...] = ()
    flags: frozenset[str] = frozenset()
