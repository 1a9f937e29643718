"""Whether a message may leave: suppression, consent, frequency, text, quiet hours, in this order; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from auterity_dagster.automatrix.compliance.places import regions, zones
from auterity_dagster.automatrix.compliance.quiet_hours import is_open, next_open
from auterity_dagster.automatrix.compliance.rows import (
    LEVELS,
    AiDisclosure,
    Channel,
    ComplianceRows,
    Consent,
    EmailFooter,
    EmailOptOut,
    FrequencyCap,
    Level,
    Purpose,
    QuietHours,
    Row,
)
from auterity_dagster.automatrix.compliance.text_rules import text_violations
from auterity_dagster.automatrix.recall import Match
from auterity_dagster.money import NanoUsd

Author = Literal["ai", "person", "template"]

_POLICY_OF = {"price_claims": "price_claims", "credit_decisions": "no_credit_decision"}


@dataclass(frozen=True, slots=True)
class Suppression:
    """An address that nothing is sent to; with no channel, over none."""

    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class ContactFacts:
    """What is known about a contact and its dealership when a message is about to leave, under the contact's lock.

    `sent_at` are the messages of the last month over this channel. `prices` are total prices of available vehicles
    with the time of their newest feed. `states` come from postal addresses: the customer's, then the dealership's.
    """

    address: str | None
    suppression: Suppression | None
    consent: Level
    sent_at: tuple[datetime, ...]
    is_first_in_thread: bool
    prices: Mapping[NanoUsd, datetime]
    states: frozenset[str]
    dealership_state: str | None
    dealership_zone: str
    postal_address: str | None
    unsubscribe_url: str | None = None
    """Where the contact ends the dealership's e-mails; None over any other channel."""


@dataclass(frozen=True, slots=True)
class DraftMessage:
    """What is about to leave. `policies` are the workflow's own; they bind a text whoever wrote it."""

    channel: Channel
    purpose: Purpose
    text: str
    author: Author
    policies: frozenset[str]
    recall_match: Match


@dataclass(frozen=True, slots=True)
class Allow:
    """It may leave, in this wording; `rules` are the rows that bound the decision."""

    text: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeferUntil:
    """Not before then; `allowed` is what it would be."""

    at: datetime
    detail: str
    rules: tuple[str, ...]
    allowed: Allow


@dataclass(frozen=True, slots=True)
class Suppress:
    """It does not leave: `reason` is a code, `detail` a sentence for a person."""

    reason: str
    detail: str
    rules: tuple[str, ...]


SendDecision = Allow | DeferUntil | Suppress


def may_send(contact: ContactFacts, draft: DraftMessage, *, rows: ComplianceRows, now: datetime) -> SendDecision:
    """Decide with the rows in force; every decision names the rows that made it."""
    if contact.address is None:
        return Suppress("no_address", f"the contact has no address for {draft.channel}", ())
    number = contact.address if draft.channel == "sms" else None
    states = regions(number, contact.states) | regions(None, filter(None, [contact.dealership_state]))
    in_force = rows.in_force(now, states)
    refusal = (
        _suppressed(contact)
        or _without_consent(contact, draft, in_force)
        or _too_often(contact, draft, in_force, now)
        or _says_what_it_may_not(contact, draft, in_force, now)
    )
    if refusal is not None:
        return refusal
    text, text_rules = _completed(contact, draft, in_force)
    windows = tuple(row for row in in_force if isinstance(row, QuietHours) and draft.channel in row.channels)
    rules = (*text_rules, *(row.id for row in windows))
    allowed = Allow(text, rules)
    where = zones(number, contact.states) | {contact.dealership_zone}
    if is_open(now, windows, where):
        return allowed
    window_rules = tuple(row.id for row in windows)
    later = next_open(now, windows, where)
    if later is None:
        detail = f"no hour is open in {', '.join(sorted(where))} at once"
        return Suppress("no_open_hour", detail, window_rules)
    at, zone = later
    shown = f"waits until {at.astimezone(ZoneInfo(zone)):%H:%M} {zone.rpartition('/')[2].replace('_', ' ')}"
    return DeferUntil(at, shown, window_rules, allowed)


def _suppressed(contact: ContactFacts) -> Suppress | None:
    if contact.suppression is None:
        return None
    found = contact.suppression
    return Suppress(found.reason, f"not sent: {found.reason.replace('_', ' ')} on {found.since:%Y-%m-%d}", ())


def _without_consent(contact: ContactFacts, draft: DraftMessage, rows: Sequence[Row]) -> Suppress | None:
    demands = [row for row in rows if isinstance(row, Consent) and draft.channel in row.channels]
    needed = [(row.purposes.get(draft.purpose), row.id) for row in demands]
    unmet = [row_id for level, row_id in needed if level is None or LEVELS.index(contact.consent) < LEVELS.index(level)]
    if needed and not unmet:
        return None
    levels = [level for level, row_id in needed if row_id in unmet and level is not None]
    wanted = max(levels, key=LEVELS.index) if levels else "a rule for this purpose"
    detail = f"{draft.purpose} by {draft.channel} needs {wanted}, there is {contact.consent}"
    return Suppress("no_consent", detail, tuple(unmet))


def _too_often(contact: ContactFacts, draft: DraftMessage, rows: Sequence[Row], now: datetime) -> Suppress | None:
    for row in rows:
        if isinstance(row, FrequencyCap) and draft.channel in row.channels:
            sent = sum(now - row.within < one <= now for one in contact.sent_at)
            if sent >= row.max_messages:
                hours = row.within.total_seconds() / 3600
                return Suppress("frequency_cap", f"{sent} messages within {hours:g} hours", (row.id,))
    return None


def _says_what_it_may_not(
    contact: ContactFacts, draft: DraftMessage, rows: Sequence[Row], now: datetime
) -> Suppress | None:
    binding = [
        row
        for row in rows
        if draft.author == "ai" or row.kind not in _POLICY_OF or _POLICY_OF[row.kind] in draft.policies
    ]
    found = tuple(text_violations(draft.text, binding, prices=contact.prices, now=now, recall_match=draft.recall_match))
    if found:
        reasons = tuple(dict.fromkeys(reason for reason, _row in found))
        rules = tuple(dict.fromkeys(row_id for _reason, row_id in found))
        return Suppress(reasons[0].partition(":")[0], "; ".join(reasons), rules)
    footers = tuple(row.id for row in rows if isinstance(row, EmailFooter) and draft.purpose in row.purposes)
    if draft.channel == "email" and footers and contact.postal_address is None:
        return Suppress("no_postal_address", "the dealership has no postal address to name", footers)
    return None


def _discloses(row: AiDisclosure, contact: ContactFacts, draft: DraftMessage) -> bool:
    return draft.author == "ai" and contact.is_first_in_thread and draft.channel in row.channels


def _completed(contact: ContactFacts, draft: DraftMessage, rows: Sequence[Row]) -> tuple[str, tuple[str, ...]]:
    """Add what the text has to say: that an AI wrote it, where the dealership is, and how to hear no more of it."""
    text, added = draft.text, list[str]()
    for row in rows:
        match row:
            case AiDisclosure() if _discloses(row, contact, draft):
                if row.text not in text:
                    text = f"{text.rstrip()}\n{row.text}"
                added.append(row.id)
            case EmailFooter() if draft.channel == "email" and draft.purpose in row.purposes:
                text = f"{text.rstrip()}\n\n{contact.postal_address}"
                added.append(row.id)
            case EmailOptOut() if contact.unsubscribe_url is not None and draft.purpose in row.purposes:
                if contact.unsubscribe_url not in text:
                    text = f"{text.rstrip()}\n\nNo more e-mails from us: {contact.unsubscribe_url}"
                added.append(row.id)
            case _:
                continue
    return text, tuple(added)
