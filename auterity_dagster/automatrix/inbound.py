"""What came in and what became of it: one delivery, its prospects, and the event that a lead causes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import UUID

from auterity_dagster.automatrix.adf import read_adf
from auterity_dagster.automatrix.lead import Lead, ReadLead
from auterity_dagster.automatrix.lead_json import read_json_lead
from auterity_dagster.automatrix.lead_judgement import AddedAddress, ReadingContext
from auterity_dagster.automatrix.quarantine import Quarantined

InboundKind = Literal["adf", "json"]
InboundState = Literal["received", "accepted", "duplicate", "quarantined", "discarded"]
ProspectState = Literal["accepted", "duplicate", "quarantined", "discarded"]


def read_document(
    raw: bytes, *, kind: InboundKind, context: ReadingContext, added: AddedAddress | None = None
) -> tuple[ReadLead, ...] | Quarantined:
    """Return what the document holds, or why it is quarantined as a whole."""
    try:
        if kind == "adf":
            return read_adf(raw, context=context, added=added)
        return read_json_lead(raw, context=context, added=added)
    except Quarantined as refused:
        return refused


@dataclass(frozen=True, slots=True)
class ProspectOutcome:
    """What became of the prospect at `position` of a delivery."""

    position: int
    state: ProspectState
    reason: str | None = None
    dedupe_key: str | None = None
    lead_id: UUID | None = None


def delivery_state(outcomes: tuple[ProspectOutcome, ...]) -> InboundState:
    """Return the delivery's state: what still needs a person shows, then what took effect."""
    states = {outcome.state for outcome in outcomes}
    order: tuple[ProspectState, ...] = ("quarantined", "accepted", "duplicate", "discarded")
    return next(state for state in order if state in states)


def lead_event_data(lead: Lead, *, lead_id: UUID, contact_id: UUID) -> Mapping[str, Any]:
    """Return the data of `lead.received`: JSON without any vaulted value; its texts are a stranger's."""
    shown = ("interest", "status", "year", "make", "vehicle_model", "trim", "vin", "stock_number", "price_nusd")
    return {
        "kind": "sales",
        "lead_id": str(lead_id),
        "contact_id": str(contact_id),
        "dedupe_key": lead.dedupe_key,
        "customer_name": lead.name,
        "comments": lead.comments,
        "is_untrusted": True,
        "channel": lead.channel,
        "vehicles": [{name: getattr(vehicle, name) for name in shown} for vehicle in lead.vehicles],
        "flags": list(lead.flags),
    }


def lead_details(lead: Lead) -> Mapping[str, Any]:
    """Return what a lead says beside its columns, as JSON."""
    return {
        "status": lead.status,
        "dealership_name": lead.dealership_name,
        "address": None if lead.address is None else asdict(lead.address),
        "timeframe": None if lead.timeframe is None else asdict(lead.timeframe),
        "unusable_addresses": list(lead.unusable_addresses),
        "extras": [asdict(extra) for extra in lead.extras],
        "vaulted": list(dict.fromkeys(value.kind for value in lead.vaulted)),
    }
