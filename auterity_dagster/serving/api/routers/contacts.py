"""Contacts: what was said to them and why something was not, what they agreed to, and whom nothing is sent to."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.automatrix.compliance.rows import Channel
from auterity_dagster.automatrix.lead_draft import PhoneDraft
from auterity_dagster.automatrix.phone import usable_email, usable_phone
from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, contact_consents, inbound_messages, suppressions

router = DeclaredRouter(tags=["contacts"])
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Limit = Annotated[int, Query(ge=1, le=500)]
READ: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.CONTACT_READ,
    "body_limit_bytes": 0,
    "audit_class": "none",
}
CHANGE: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.CONTACT_MANAGE,
    "body_limit_bytes": 4096,
    "audit_class": "change",
    "problems": (404, 409),
}


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ContactRead(_Read):
    """A contact as it is listed."""

    id: UUID
    dealership_id: UUID
    name: str
    is_business: bool
    email: str | None
    mobile: str | None
    created_at: datetime


class MessageRead(_Read):
    """One message of a thread; a suppressed one never left, and `reason` and `rules` say why."""

    id: UUID
    channel: Channel
    direction: Literal["in", "out"]
    purpose: str | None
    author: Literal["ai", "person", "template", "customer"]
    text: str
    state: Literal["received", "intended", "sent", "failed", "unknown", "suppressed"]
    reason: str | None
    rules: list[str]
    execution_id: UUID | None
    provider_ref: str | None
    created_at: datetime


class ContactConsentWrite(_Write):
    """What a contact agreed to, and how one knows."""

    channel: Channel
    level: Literal["express", "written"]
    evidence: Line


class ContactConsentRead(_Read):
    """What a contact agreed to, until it was taken back."""

    id: UUID
    channel: Channel
    level: Literal["express", "written"]
    evidence: str
    granted_at: datetime
    revoked_at: datetime | None


class SuppressionWrite(_Write):
    """An address that nothing is sent to any more; without a channel over none."""

    address: Line
    channel: Channel | None = None
    evidence: Line


class SuppressionRead(_Read):
    """A suppression; one `to_confirm` binds already, and a person says whether it stays."""

    id: UUID
    contact_id: UUID | None
    channel: Channel | None
    reason: str
    evidence: str
    rules: list[str]
    state: Literal["in_force", "to_confirm", "lifted"]
    created_at: datetime
    changed_at: datetime


class SettleWrite(_Write):
    """Whether a suppression stays in force or is lifted."""

    state: Literal["in_force", "lifted"]


@router.get("/contacts", **READ)
async def find_contacts(
    address: Annotated[str, Query(min_length=3, max_length=254)], state: State, principal: CurrentPrincipal
) -> list[ContactRead]:
    """Return the contacts with this number or e-mail address."""
    async with state.database.begin(principal.organization_id) as session:
        found = await contact_consents.with_address(session, principal, _usable(address), limit=50)
    return [ContactRead.model_validate(row) for row in found]


@router.get("/contacts/{contact_id}", **READ, problems=(404,))
async def read_contact(contact_id: UUID, state: State, principal: CurrentPrincipal) -> ContactRead:
    """Return one contact."""
    async with state.database.begin(principal.organization_id) as session:
        return ContactRead.model_validate(await contact_consents.find_contact(session, principal, contact_id))


@router.get("/contacts/{contact_id}/messages", **READ, problems=(404,))
async def read_thread(
    contact_id: UUID, state: State, principal: CurrentPrincipal, limit: Limit = 100
) -> list[MessageRead]:
    """Return a contact's thread, newest first: what left, what came, and what a rule stopped."""
    async with state.database.begin(principal.organization_id) as session:
        await contact_consents.find_contact(session, principal, contact_id)
        found = await inbound_messages.of_contact(session, contact_id, limit=limit)
    return [MessageRead.model_validate(row) for row in found]


@router.get("/contacts/{contact_id}/consents", **READ, problems=(404,))
async def read_consents(contact_id: UUID, state: State, principal: CurrentPrincipal) -> list[ContactConsentRead]:
    """Return what a contact agreed to."""
    async with state.database.begin(principal.organization_id) as session:
        await contact_consents.find_contact(session, principal, contact_id)
        return [
            ContactConsentRead.model_validate(row) for row in await contact_consents.of_contact(session, contact_id)
        ]


@router.post("/contacts/{contact_id}/consents", **CHANGE, status_code=201)
async def grant_consent(
    contact_id: UUID, write: ContactConsentWrite, state: State, principal: CurrentPrincipal
) -> UUID:
    """Record that a contact agreed; the answer is the consent's id."""
    async with state.database.begin(principal.organization_id) as session:
        await contact_consents.find_contact(session, principal, contact_id)
        consent_id = await contact_consents.grant(
            session,
            contact_id,
            channel=write.channel,
            level=write.level,
            evidence=write.evidence,
            now=state.clock.now(),
        )
        details = {"consent_id": str(consent_id), "channel": write.channel, "level": write.level}
        subject = f"contacts/{contact_id}"
        await audit.append(session, actor=principal, action="consent.granted", subject=subject, details=details)
    return consent_id


@router.delete("/contacts/{contact_id}/consents/{consent_id}", **{**CHANGE, "body_limit_bytes": 0}, status_code=204)
async def revoke_consent(contact_id: UUID, consent_id: UUID, state: State, principal: CurrentPrincipal) -> None:
    """Record that a contact took a consent back."""
    async with state.database.begin(principal.organization_id) as session:
        await contact_consents.find_contact(session, principal, contact_id)
        await contact_consents.revoke(session, contact_id, consent_id, now=state.clock.now())
        details = {"consent_id": str(consent_id)}
        subject = f"contacts/{contact_id}"
        await audit.append(session, actor=principal, action="consent.revoked", subject=subject, details=details)


@router.get("/suppressions", **READ)
async def list_suppressions(
    state: State,
    principal: CurrentPrincipal,
    wanted: Annotated[Literal["in_force", "to_confirm", "lifted"] | None, Query(alias="state")] = None,
    limit: Limit = 100,
) -> list[SuppressionRead]:
    """Return whom nothing is sent to, newest first; the addresses themselves are not kept."""
    async with state.database.begin(principal.organization_id) as session:
        found = await suppressions.every(session, state=wanted, limit=limit)
    return [SuppressionRead.model_validate(row) for row in found]


@router.post("/suppressions", **CHANGE, status_code=201)
async def suppress(write: SuppressionWrite, state: State, principal: CurrentPrincipal) -> UUID:
    """Send nothing to this address any more; the answer is the suppression's id."""
    address = _usable(write.address)
    async with state.database.begin(principal.organization_id) as session:
        held = await suppressions.locked_contacts(session, address)
        suppression_id = await suppressions.add(
            session,
            address,
            channel=write.channel,
            reason="suppressed",
            evidence=write.evidence,
            rules=(),
            state="in_force",
            contact_id=held[0].id if held else None,
            now=state.clock.now(),
        )
        subject = f"suppressions/{suppression_id}"
        await audit.append(session, actor=principal, action="suppression.created", subject=subject, details={})
    return suppression_id


@router.put("/suppressions/{suppression_id}", **CHANGE, status_code=204)
async def settle(suppression_id: UUID, write: SettleWrite, state: State, principal: CurrentPrincipal) -> None:
    """Confirm a suppression that was read out of other words, or lift one."""
    async with state.database.begin(principal.organization_id) as session:
        await suppressions.settle(session, suppression_id, state=write.state, now=state.clock.now())
        subject, details = f"suppressions/{suppression_id}", {"state": write.state}
        await audit.append(session, actor=principal, action="suppression.settled", subject=subject, details=details)


def _usable(address: str) -> str:
    phone = None if "@" in address else usable_phone(PhoneDraft(address))
    found = usable_email(address) if phone is None else phone.number
    if found is None:
        raise Invalid("a number such as +13125550141 or an e-mail address was expected", field="address")
    return found
