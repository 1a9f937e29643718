"""The one rule that turns a draft into a strict lead, or says that nobody can answer it."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from auterity_dagster.automatrix.credit_application import vault
from auterity_dagster.automatrix.instruction_like import looks_like_instructions
from auterity_dagster.automatrix.lead import Address, Lead, Phone, ReadLead, RejectedLead, Timeframe, VaultedValue
from auterity_dagster.automatrix.lead_draft import AddressDraft, LeadDraft, PhoneDraft, VehicleDraft
from auterity_dagster.automatrix.lead_vehicle import wanted_vehicle
from auterity_dagster.automatrix.phone import usable_email, usable_phone
from auterity_dagster.automatrix.quarantine import QuarantineReason
from auterity_dagster.automatrix.request_time import request_time

KEY_LIMIT, SLUG_LIMIT = 300, 100
_UNREACHABLE = frozenset({"fax", "pager"})


@dataclass(frozen=True, slots=True)
class ReadingContext:
    """What a document does not say: when it came, and in which zone its dealership lives."""

    received_at: datetime
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class AddedAddress:
    """A way to reply that a person adds to the prospect at `position` of a quarantined document."""

    position: int
    email: str = ""
    phone: str = ""


def judged(draft: LeadDraft, *, context: ReadingContext, added: AddedAddress | None = None) -> ReadLead:
    """Return a lead whose every value is usable as its type says; flags name what was assumed or left out."""
    draft, vaulted = _without_credit_data(draft)
    flags = set(draft.flags)
    if vaulted:
        flags.add("credit_application")
    if any(looks_like_instructions(text) for text in _free_texts(draft)):
        flags.add("instruction_like_text")
    requested_at, time_flag = request_time(draft.request_time, received_at=context.received_at, zone=context.zone)
    emails, bad_emails = _emails(draft.emails + ((added.email,) if added and added.email else ()))
    phones, bad_phones = _phones(draft.phones + ((PhoneDraft(added.phone),) if added and added.phone else ()))
    vehicles = tuple(
        found
        for vehicle in draft.vehicles
        if (found := wanted_vehicle(vehicle, received_at=context.received_at, flags=flags))
    )
    key = _sender_key(draft)
    if not emails and all(phone.kind in _UNREACHABLE for phone in phones):
        return RejectedLead(QuarantineReason.NO_WAY_TO_REPLY, key)
    if key is None:
        flags.add("dedupe_fallback")
        wanted = next((vehicle.vin or vehicle.stock_number or "" for vehicle in vehicles), "")
        key = _fallback_key(draft, reply_to=[*emails, *(phone.number for phone in phones)][0], wanted=wanted,
                            requested_at=requested_at)  # fmt: skip
    flags |= {flag for flag, is_set in (
        (time_flag or "", time_flag is not None),
        ("email_invalid", bool(bad_emails)),
        ("phone_unusable", bool(bad_phones)),
        ("vehicle_missing", not vehicles),
        ("extras", bool(draft.extras)),
    ) if is_set}  # fmt: skip
    return Lead(
        dedupe_key=key,
        status="resend" if draft.status.strip().lower() == "resend" else "new",
        requested_at=requested_at,
        dealership_name=draft.dealership_name or None,
        provider=draft.provider or None,
        name=draft.name,
        is_business=draft.is_business,
        emails=emails,
        phones=phones,
        unusable_addresses=bad_emails + bad_phones,
        address=_address(draft.address),
        vehicles=vehicles,
        timeframe=Timeframe(*(text or None for text in draft.timeframe)) if any(draft.timeframe) else None,
        comments=draft.comments,
        extras=draft.extras,
        vaulted=vaulted,
        flags=tuple(sorted(flags)),
    )


def _without_credit_data(draft: LeadDraft) -> tuple[LeadDraft, tuple[VaultedValue, ...]]:
    taken: list[VaultedValue] = []

    def cleaned(text: str, field: str) -> str:
        clean, values = vault(text, field=field)
        taken.extend(values)
        return clean

    comments = cleaned(draft.comments, "comments")
    vehicles: list[VehicleDraft] = []
    for vehicle in draft.vehicles:
        texts = {name: cleaned(getattr(vehicle, name), f"vehicle.{name}") for name in ("comments", "price_comments")}
        vehicles.append(replace(vehicle, **texts))
    # An extra's name is its label: `<ssn>…</ssn>` says what it holds as plainly as `SSN: …`.
    extras = tuple(
        replace(extra, text=cleaned(f"{extra.name}: {extra.text}", f"extras.{extra.name}").partition(": ")[2])
        for extra in draft.extras
    )
    return replace(draft, comments=comments, vehicles=tuple(vehicles), extras=extras), tuple(taken)


def _free_texts(draft: LeadDraft) -> list[str]:
    texts = [draft.name, draft.comments, *(extra.text for extra in draft.extras)]
    return texts + [text for vehicle in draft.vehicles for text in (vehicle.comments, vehicle.price_comments)]


def _emails(written: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    usable = dict.fromkeys(found for text in written if (found := usable_email(text)))
    return tuple(usable), tuple(text for text in written if usable_email(text) is None)


def _phones(drafts: tuple[PhoneDraft, ...]) -> tuple[tuple[Phone, ...], tuple[str, ...]]:
    usable: dict[str, Phone] = {}
    for draft in drafts:
        if (phone := usable_phone(draft)) is not None:
            usable.setdefault(phone.number, phone)
    return tuple(usable.values()), tuple(draft.written for draft in drafts if usable_phone(draft) is None)


def _sender_key(draft: LeadDraft) -> str | None:
    if not draft.sender_id:
        return None
    key = f"{draft.scheme}:{_slug(draft.provider)}:{draft.sender_id}"
    # An index holds no row of more than some 2,700 bytes: an absurd id is known by its digest.
    return key if len(key) <= KEY_LIMIT else f"{draft.scheme}:{hashlib.sha256(key.encode()).hexdigest()}"


def _fallback_key(draft: LeadDraft, *, reply_to: str, wanted: str, requested_at: datetime) -> str:
    identity = f"{reply_to}|{wanted}|{requested_at.astimezone(UTC):%Y-%m-%d}"
    return f"{draft.scheme}:{_slug(draft.provider)}:{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _slug(provider: str) -> str:
    return "-".join(provider.lower().split())[:SLUG_LIMIT] or "unknown"


def _address(draft: AddressDraft) -> Address | None:
    values = (", ".join(draft.streets), draft.apartment, draft.city, draft.region, draft.postal_code, draft.country)
    return Address(*(value or None for value in values)) if any(values) else None
