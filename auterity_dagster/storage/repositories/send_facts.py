"""What is known about a contact when a message is about to leave, read under the contact's lock."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compliance.decision import ContactFacts, Suppression
from auterity_dagster.automatrix.compliance.rows import LEVELS, Channel, Level
from auterity_dagster.automatrix.ports import IntendedMessage
from auterity_dagster.money import NanoUsd
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.inbound import ContactRow, InventoryVehicleRow, LeadRow
from auterity_dagster.storage.tables.messaging import ContactConsentRow, MessageRow, SuppressionRow
from auterity_dagster.storage.tables.workflows import CustomerVehicleRow, ServiceDueRow

COUNTED = timedelta(days=31)
LEFT = ("intended", "sent", "unknown")
"""States of a message that a customer may have got."""


def address_digest(organization_id: UUID, address: str) -> bytes:
    """Return what stands for an address in the list of those that nothing is sent to."""
    return hashlib.sha256(organization_id.bytes + address.strip().lower().encode()).digest()


def contact_facts(session: Session, message: IntendedMessage, *, key: str, now: datetime) -> ContactFacts:
    """Read the facts; until the transaction ends no opt-out of this contact can come in between.

    `key` is the effect's own: a message that is tried again does not count against itself.
    """
    draft = message.draft
    # An opt-out takes this row for itself; many messages may share it.
    contact = session.scalars(
        select(ContactRow).where(ContactRow.id == message.contact_id).with_for_update(read=True)
    ).one_or_none()
    dealership = session.scalars(select(DealershipRow).where(DealershipRow.id == message.dealership_id)).one()
    address = None if contact is None else (contact.mobile if draft.channel == "sms" else contact.email)
    sent = session.scalars(
        select(MessageRow.created_at).where(
            MessageRow.contact_id == message.contact_id,
            MessageRow.direction == "out",
            MessageRow.channel == draft.channel,
            MessageRow.state.in_(LEFT),
            MessageRow.created_at > now - COUNTED,
            func.coalesce(MessageRow.effect_key, "") != key,
        )
    ).all()
    return ContactFacts(
        address=address,
        suppression=None if address is None else _suppression(session, address, draft.channel),
        consent=_consent(session, message),
        sent_at=tuple(sent),
        is_first_in_thread=not sent,
        prices=_prices(session, message.dealership_id, message.amounts),
        states=_states(session, message.contact_id),
        dealership_state=dealership.region or None,
        dealership_zone=dealership.time_zone,
        postal_address=_postal_address(dealership),
    )


def _suppression(session: Session, address: str, channel: Channel) -> Suppression | None:
    row = session.scalars(
        select(SuppressionRow)
        .where(
            SuppressionRow.address_digest == address_digest(organization_of(session), address),
            SuppressionRow.state != "lifted",
            or_(SuppressionRow.channel.is_(None), SuppressionRow.channel == channel),
        )
        .order_by(SuppressionRow.created_at)
        .limit(1)
    ).one_or_none()
    return None if row is None else Suppression(row.reason, row.created_at)


def _consent(session: Session, message: IntendedMessage) -> Level:
    granted = session.scalars(
        select(ContactConsentRow.level).where(
            ContactConsentRow.contact_id == message.contact_id,
            ContactConsentRow.channel == message.draft.channel,
            ContactConsentRow.revoked_at.is_(None),
        )
    ).all()
    levels: list[Level] = [level for level in LEVELS if level in granted]
    owned = (ServiceDueRow, CustomerVehicleRow)
    if any(session.scalar(select(row.id).where(row.contact_id == message.contact_id).limit(1)) for row in owned):
        levels.append("relationship")
    if message.inquired:
        levels.append("inquiry")
    return cast("Level", max(levels, key=LEVELS.index, default="none"))


def _prices(session: Session, dealership_id: UUID, amounts: Sequence[NanoUsd]) -> dict[NanoUsd, datetime]:
    if not amounts:
        return {}
    rows = session.execute(
        select(InventoryVehicleRow.price_nusd, func.max(InventoryVehicleRow.fed_at))
        .where(
            InventoryVehicleRow.dealership_id == dealership_id,
            InventoryVehicleRow.status == "available",
            InventoryVehicleRow.price_nusd.in_(amounts),
        )
        .group_by(InventoryVehicleRow.price_nusd)
    )
    return {price: fed_at for price, fed_at in rows if price is not None}


def _states(session: Session, contact_id: UUID) -> frozenset[str]:
    details = session.scalars(
        select(LeadRow.details).where(LeadRow.contact_id == contact_id).order_by(LeadRow.received_at.desc()).limit(5)
    )
    addresses = [cast("Mapping[str, str | None]", one.get("address") or {}) for one in details]
    return frozenset(region for one in addresses if (region := one.get("region")))


def _postal_address(dealership: DealershipRow) -> str | None:
    if not (dealership.street and dealership.city):
        return None
    return f"{dealership.name}, {dealership.street}, {dealership.city}, {dealership.region} {dealership.postal_code}"
