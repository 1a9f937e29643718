"""Writes ADF: what nearly every CRM reads from its mailbox."""

from collections.abc import Mapping
from datetime import datetime
from xml.sax.saxutils import escape, quoteattr

from pydantic import JsonValue

_CONTACT = ("name", "email", "phone")
_VEHICLE = ("year", "make", "vehicle_model", "vin", "stock_number", "trim")
_ELEMENTS = {"vehicle_model": "model", "stock_number": "stock"}


def adf_document(
    fields: Mapping[str, JsonValue], *, key: str, operation: str, dealership: str, requested_at: datetime
) -> str:
    """Return one prospect. A field that ADF has no element for becomes a line of the comments."""
    known = {name: _text(fields[name]) for name in (*_CONTACT, *_VEHICLE) if fields.get(name) is not None}
    rest = [f"{name}: {_text(value)}" for name, value in fields.items() if name not in known and name != "comments"]
    comments = "\n".join([*([_text(fields["comments"])] if fields.get("comments") else []), *rest])
    if operation != "lead":
        comments = f"[{operation}]\n{comments}"
    contact = "".join(f"<{name}{_part(name)}>{escape(known[name])}</{name}>" for name in _CONTACT if name in known)
    vehicle = "".join(
        f"<{_ELEMENTS.get(name, name)}>{escape(known[name])}</{_ELEMENTS.get(name, name)}>"
        for name in _VEHICLE
        if name in known
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<?adf version="1.0"?>\n<adf><prospect status="new">'
        f'<id sequence="1" source={quoteattr("Auterity")}>{escape(key)}</id>'
        f"<requestdate>{requested_at.isoformat()}</requestdate>"
        f'<vehicle interest="buy">{vehicle}</vehicle>'
        f"<customer><contact>{contact}</contact><comments>{escape(comments)}</comments></customer>"
        f"<vendor><vendorname>{escape(dealership)}</vendorname></vendor>"
        "<provider><name>Auterity</name></provider></prospect></adf>\n"
    )


def _part(name: str) -> str:
    return ' part="full"' if name == "name" else ""


def _text(value: JsonValue) -> str:
    written = value if isinstance(value, str) else str(value)
    # What XML 1.0 cannot carry at all.
    return "".join(one for one in written if one in "\t\n\r" or one >= " ")
