"""What a dealership hands in for its audiences: services due, and the vehicles that its customers own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.lead import Phone
from auterity_dagster.automatrix.recall import name_key
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.contacts import ensure_contact
from auterity_dagster.storage.tables.workflows import CustomerVehicleRow, ServiceDueRow

Channel = Literal["sms", "email"]


@dataclass(frozen=True, slots=True)
class ServiceDue:
    """A customer's vehicle with a service due; `address` is an E.164 number or an e-mail address."""

    external_key: str
    customer_name: str
    channel: Channel
    address: str
    vehicle: str
    service: str
    times: tuple[str, ...]
    due_at: datetime


@dataclass(frozen=True, slots=True)
class CustomerVehicle:
    """A vehicle that a customer owns; `address` is an E.164 number or an e-mail address."""

    external_key: str
    customer_name: str
    channel: Channel
    address: str
    vin: str | None
    make: str
    vehicle_model: str
    year: int


async def put_service_due(
    session: AsyncSession, dealership_id: UUID, rows: Sequence[ServiceDue], *, now: datetime
) -> int:
    """Insert or replace by the dealership's own key; returns how many."""
    for row in rows:
        values = {
            "contact_id": await _contact(session, dealership_id, row, now),
            "customer_name": row.customer_name,
            "channel": row.channel,
            "vehicle": row.vehicle,
            "service": row.service,
            "times": list(row.times),
            "due_at": row.due_at,
        }
        await _put(session, ServiceDueRow, dealership_id, row.external_key, values)
    return len(rows)


async def put_customer_vehicles(
    session: AsyncSession, dealership_id: UUID, rows: Sequence[CustomerVehicle], *, now: datetime
) -> int:
    """Insert or replace by the dealership's own key; returns how many."""
    for row in rows:
        values = {
            "contact_id": await _contact(session, dealership_id, row, now),
            "customer_name": row.customer_name,
            "channel": row.channel,
            "vin": None if row.vin is None else row.vin.upper(),
            "make": row.make,
            "vehicle_model": row.vehicle_model,
            "make_key": name_key(row.make),
            "vehicle_model_key": name_key(row.vehicle_model),
            "year": row.year,
            "changed_at": now,
        }
        await _put(session, CustomerVehicleRow, dealership_id, row.external_key, values)
    return len(rows)


async def _contact(
    session: AsyncSession, dealership_id: UUID, row: ServiceDue | CustomerVehicle, now: datetime
) -> UUID:
    return await ensure_contact(
        session,
        dealership_id=dealership_id,
        name=row.customer_name,
        emails=[row.address] if row.channel == "email" else [],
        phones=[Phone(row.address, "mobile")] if row.channel == "sms" else [],
        now=now,
    )


async def _put(
    session: AsyncSession,
    table: type[ServiceDueRow | CustomerVehicleRow],
    dealership_id: UUID,
    external_key: str,
    values: dict[str, Any],
) -> None:
    await session.execute(
        insert(table)
        .values(
            organization_id=organization_of(session.sync_session),
            id=uuid4(),
            dealership_id=dealership_id,
            external_key=external_key,
            **values,
        )
        .on_conflict_do_update(index_elements=["organization_id", "dealership_id", "external_key"], set_=values)
    )
