"""The JSON lead: a strict schema in a CloudEvents envelope, read into the same draft as ADF."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from auterity_dagster.automatrix.lead import Interest, ReadLead
from auterity_dagster.automatrix.lead_draft import AddressDraft, LeadDraft, PhoneDraft, VehicleDraft
from auterity_dagster.automatrix.lead_judgement import AddedAddress, ReadingContext, judged
from auterity_dagster.automatrix.quarantine import Quarantined, QuarantineReason

BYTE_LIMIT = 256 * 1024
EVENT_TYPE = "com.auterity.lead.submitted"


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a text holds no NUL character")
    return text


Line = Annotated[str, Field(max_length=200), AfterValidator(_storable)]
Text = Annotated[str, Field(max_length=20_000), AfterValidator(_storable)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class JsonPhone(_Document):
    """A number as people write it."""

    number: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]
    kind: Literal["voice", "mobile", "home", "work", "fax", "pager"] = "voice"
    best_time: Line = ""
    is_preferred: bool = False


class JsonVehicle(_Document):
    """A vehicle that is asked for or brought; `price_usd` is a decimal text such as "24990.00"."""

    interest: Interest = "buy"
    status: Literal["new", "used"] = "new"
    year: Annotated[int, Field(ge=1900, le=2100)] | None = None
    make: Line = ""
    vehicle_model: Line = ""
    trim: Line = ""
    stock_number: Line = ""
    vin: Line = ""
    odometer: Annotated[int, Field(ge=0, le=9_999_999)] | None = None
    odometer_unit: Literal["mi", "km"] = "mi"
    price_usd: Annotated[str, Field(pattern=r"^[0-9]{1,8}(\.[0-9]{1,2})?$")] | None = None
    comments: Text = ""


class JsonAddress(_Document):
    """A postal address."""

    street: Line = ""
    apartment: Line = ""
    city: Line = ""
    region: Line = ""
    postal_code: Line = ""
    country: Line = ""


class JsonLead(_Document):
    """What a customer wants and how to answer."""

    name: Line
    is_business: bool = False
    emails: Annotated[list[Line], Field(max_length=10)] = []
    phones: Annotated[list[JsonPhone], Field(max_length=10)] = []
    address: JsonAddress = JsonAddress()
    vehicles: Annotated[list[JsonVehicle], Field(max_length=20)] = []
    comments: Text = ""


class JsonLeadEvent(_Document):
    """The envelope: CloudEvents 1.0 with exactly these attributes; `source` and `id` name the lead."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
    source: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
    type: Literal["com.auterity.lead.submitted"]
    time: Line = ""
    datacontenttype: Literal["application/json"] = "application/json"
    data: JsonLead


def read_json_lead(raw: bytes, *, context: ReadingContext, added: AddedAddress | None = None) -> tuple[ReadLead, ...]:
    """Return the one lead, or its rejection. Raises `Quarantined` for what does not match the schema.

    The note of a quarantine names fields and rules, never what was sent.
    """
    if len(raw) > BYTE_LIMIT:
        raise Quarantined(QuarantineReason.TOO_LARGE)
    try:
        event = JsonLeadEvent.model_validate_json(raw)
    except ValidationError as error:
        wrong = [f"{'.'.join(str(part) for part in one['loc']) or 'document'}: {one['type']}" for one in error.errors()]
        raise Quarantined(QuarantineReason.SCHEMA, note="; ".join(wrong[:5])) from error
    return (judged(_draft(event), context=context, added=added),)


def _draft(event: JsonLeadEvent) -> LeadDraft:
    lead, address = event.data, event.data.address
    return LeadDraft(
        scheme="json",
        sender_id=event.id,
        request_time=event.time,
        provider=event.source,
        name=" ".join(lead.name.split()),
        is_business=lead.is_business,
        emails=tuple(lead.emails),
        phones=tuple(PhoneDraft(one.number, one.kind, one.best_time, one.is_preferred) for one in lead.phones),
        address=AddressDraft(
            streets=(address.street,) if address.street else (),
            apartment=address.apartment,
            city=address.city,
            region=address.region,
            postal_code=address.postal_code,
            country=address.country,
        ),
        vehicles=tuple(_vehicle(one) for one in lead.vehicles),
        comments=lead.comments.strip(),
    )


def _vehicle(vehicle: JsonVehicle) -> VehicleDraft:
    return VehicleDraft(
        interest=vehicle.interest,
        status=vehicle.status,
        year="" if vehicle.year is None else str(vehicle.year),
        make=vehicle.make,
        vehicle_model=vehicle.vehicle_model,
        trim=vehicle.trim,
        stock_number=vehicle.stock_number,
        vin=vehicle.vin,
        odometer="" if vehicle.odometer is None else str(vehicle.odometer),
        odometer_unit=vehicle.odometer_unit,
        price=vehicle.price_usd or "",
        comments=vehicle.comments,
    )
