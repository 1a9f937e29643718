"""One `prospect` element as a draft in the sender's own words, and what ADF 1.0 does not know beside it."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from auterity_dagster.automatrix.adf_vocabulary import CHILDREN, SYNONYMS
from auterity_dagster.automatrix.lead import Extra
from auterity_dagster.automatrix.lead_draft import AddressDraft, LeadDraft, PhoneDraft, VehicleDraft

_NAME_ORDER = ("first", "middle", "last", "suffix")
_NAME_SYNONYMS = {"surname": "last", "firstname": "first", "lastname": "last", "given": "first", "family": "last"}


def prospect_draft(prospect: Element, *, flags: frozenset[str]) -> LeadDraft:
    """Read one prospect; `flags` are the document's."""
    customer = _child(prospect, "customer")
    contact = _child(customer, "contact")
    vendor = _child(prospect, "vendor")
    timeframe = _child(customer, "timeframe")
    name, is_business = _name(_children(contact, "name"))
    provider, _ = _name(_children(_child(prospect, "provider"), "name"))
    return LeadDraft(
        scheme="adf",
        sender_id=next((text for text in map(_words, _children(prospect, "id")) if text), ""),
        status=prospect.get("status", ""),
        request_time=_text_of(prospect, "requestdate"),
        dealership_name=_text_of(vendor, "vendorname"),
        provider=provider,
        name=name,
        is_business=is_business,
        emails=tuple(text for text in map(_words, _children(contact, "email")) if text),
        phones=tuple(_phone(element) for element in _children(contact, "phone") if _words(element)),
        address=_address(_child(contact, "address")),
        vehicles=tuple(_vehicle(element) for element in _children(prospect, "vehicle")),
        timeframe=(
            _text_of(timeframe, "description"),
            _text_of(timeframe, "earliestdate"),
            _text_of(timeframe, "latestdate"),
        ),
        comments=_written_of(customer, "comments"),
        extras=tuple(_extras(prospect)),
        flags=flags,
    )


def _vehicle(vehicle: Element) -> VehicleDraft:
    odometer = _child(vehicle, "odometer")
    price = next((element for element in _children(vehicle, "price") if _words(element)), None)
    return VehicleDraft(
        interest=vehicle.get("interest", ""),
        status=vehicle.get("status", ""),
        year=_text_of(vehicle, "year"),
        make=_text_of(vehicle, "make"),
        vehicle_model=_text_of(vehicle, "model"),
        trim=_text_of(vehicle, "trim"),
        stock_number=_text_of(vehicle, "stock"),
        vin=_text_of(vehicle, "vin"),
        odometer=_words(odometer),
        odometer_unit=_attribute(odometer, "units"),
        price=_words(price),
        price_type=_attribute(price, "type"),
        price_currency=_attribute(price, "currency"),
        price_comments=_written_of(vehicle, "pricecomments"),
        comments=_written_of(vehicle, "comments"),
    )


def _phone(phone: Element) -> PhoneDraft:
    return PhoneDraft(
        written=_words(phone),
        kind=phone.get("type", ""),
        best_time=phone.get("time", ""),
        is_preferred=phone.get("preferredcontact", "0").strip() == "1",
    )


def _address(address: Element | None) -> AddressDraft:
    return AddressDraft(
        streets=tuple(text for text in map(_words, _children(address, "street")) if text),
        apartment=_text_of(address, "apartment"),
        city=_text_of(address, "city"),
        region=_text_of(address, "regioncode"),
        postal_code=_text_of(address, "postalcode"),
        country=_text_of(address, "country"),
    )


def _name(names: list[Element]) -> tuple[str, bool]:
    parts: dict[str, str] = {}
    for element in names:
        part = element.get("part", "full").strip().lower()
        parts.setdefault(_NAME_SYNONYMS.get(part, part), _words(element))
    is_business = any(element.get("type", "").strip().lower() == "business" for element in names)
    whole = parts.get("full") or " ".join(parts[part] for part in _NAME_ORDER if parts.get(part))
    return whole, is_business


def _extras(parent: Element) -> Iterator[Extra]:
    """Every element that its parent does not have in ADF 1.0; what stands inside one belongs to it."""
    for child in parent:
        if child.tag not in CHILDREN.get(parent.tag, frozenset()):
            attributes = "".join(f" {name}={value!r}" for name, value in child.attrib.items())
            yield Extra(str(child.tag), str(parent.tag), " ".join("".join(child.itertext()).split()) + attributes)
        else:
            yield from _extras(child)


def _children(parent: Element | None, tag: str) -> list[Element]:
    return [] if parent is None else [child for child in parent if child.tag == tag]


def _child(parent: Element | None, tag: str) -> Element | None:
    return next(iter(_children(parent, tag)), None)


def _text_of(parent: Element | None, tag: str) -> str:
    """Return the words of the first child that has any, under its own name or one that senders use for it."""
    names = (tag, *SYNONYMS.get(tag, ()))
    return next((text for name in names for text in map(_words, _children(parent, name)) if text), "")


def _written_of(parent: Element | None, tag: str) -> str:
    """Return the children's text word for word, its lines kept; several are joined by a line end."""
    names = (tag, *SYNONYMS.get(tag, ()))
    texts = ("".join(child.itertext()).replace("\N{NO-BREAK SPACE}", " ").strip() for name in names
             for child in _children(parent, name))  # fmt: skip
    return "\n".join(text for text in texts if text)


def _words(element: Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _attribute(element: Element | None, name: str) -> str:
    return "" if element is None else element.get(name, "").strip()
