"""Whom a batch is for: named queries from code over rows that a dealership handed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.lead import Phone
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.contacts import ensure_contact
from auterity_dagster.storage.tables.workflows import ServiceDueRow


@dataclass(frozen=True, slots=True)
class ServiceDue:
    """A customer's vehicle with a service due; `address` is an E.164 number or an e-mail address."""

    external_key: str
    customer_name: str
    channel: Literal["sms", "email"]
    address: str
    vehicle: str
    service: str
    times: tuple[str, ...]
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of a batch and what its execution is told."""

    subject: str
    data: Mapping[str, Any]


async def put_service_due(
    session: AsyncSession, dealership_id: UUID, rows: Sequence[ServiceDue], *, now: datetime
) -> int:
    """Insert or replace by the dealership's own key; returns how many."""
    for row in rows:
        contact_id = await ensure_contact(
            session,
            dealership_id=dealership_id,
            name=row.customer_name,
            emails=[row.address] if row.channel == "email" else [],
            phones=[Phone(row.address, "mobile")] if row.channel == "sms" else [],
            now=now,
        )
        values = {
            "contact_id": contact_id,
            "customer_name": row.customer_name,
            "channel": row.channel,
            "vehicle": row.vehicle,
            "service": row.service,
            "times": list(row.times),
            "due_at": row.due_at,
        }
        await session.execute(
            insert(ServiceDueRow)
            .values(
                organization_id=organization_of(session.sync_session),
                id=uuid4(),
                dealership_id=dealership_id,
                external_key=row.external_key,
                **values,
            )
            .on_conflict_do_update(index_elements=["organization_id", "dealership_id", "external_key"], set_=values)
        )
    return len(rows)


async def vehicles_due_for_service(
    session: AsyncSession, dealership_id: UUID, *, by: datetime, limit: int
) -> Sequence[Subject]:
    """Return the vehicles of a dealership whose service is due by then, the longest due first."""
    rows = await session.scalars(
        select(ServiceDueRow)
        .where(ServiceDueRow.dealership_id == dealership_id, ServiceDueRow.due_at <= by)
        .order_by(ServiceDueRow.due_at, ServiceDueRow.external_key)
        .limit(limit)
    )
    return [
        Subject(
            subject=f"service-due/{row.id}",
            data={
                "contact_id": str(row.contact_id),
                "customer_name": row.customer_name,
                "channel": row.channel,
                "vehicle": row.vehicle,
                "service": row.service,
                "times": row.times,
            },
        )
        for row in rows
    ]
