"""Whom a batch is for: named queries from code over rows that a dealership handed in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, String, case, cast, exists, extract, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.automatrix.workflow import Audience
from auterity_dagster.storage.tables.connections import RecallRow
from auterity_dagster.storage.tables.inbound import InventoryVehicleRow
from auterity_dagster.storage.tables.workflows import CustomerVehicleRow, ExecutionRow, ServiceDueRow

AGES_DAYS = (90, 60, 45, 30)
"""Days in stock at which a vehicle is looked at, the oldest first."""

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of a batch and what its execution is told."""

    subject: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TakenUp:
    """Subjects that a workflow had an execution of since then: they are left out."""

    workflow_id: UUID
    since: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of an audience: of one dealership, as things stand `by` then, at most `limit`."""

    dealership_id: UUID
    by: datetime
    limit: int
    taken_up: TakenUp | None = None


async def expand(session: AsyncSession, audience: Audience, wanted: Wanted) -> Sequence[Subject]:
    """Return the subjects of an audience, those that waited longest first."""
    return await _QUERIES[audience](session, wanted)


async def _vehicles_due_for_service(session: AsyncSession, wanted: Wanted) -> Sequence[Subject]:
    """The vehicles whose service is due by then, the longest due first."""
    row = ServiceDueRow
    subject = literal("service-due/") + cast(row.id, String)
    rows = await session.scalars(
        select(row)
        .where(row.dealership_id == wanted.dealership_id, row.due_at <= wanted.by, _is_left(subject, wanted))
        .order_by(row.due_at, row.external_key)
        .limit(wanted.limit)
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


async def _vehicles_with_open_recalls(session: AsyncSession, wanted: Wanted) -> Sequence[Subject]:
    """The customers' vehicles that the table of recalls names, by VIN or by make, model and year."""
    row = CustomerVehicleRow
    by_model = (
        (RecallRow.make_key == row.make_key)
        & (RecallRow.vehicle_model_key == row.vehicle_model_key)
        & (RecallRow.year == row.year)
        & RecallRow.vin.is_(None)
    )
    by_vin = exists().where(RecallRow.organization_id == row.organization_id, RecallRow.vin == row.vin)
    subject = literal("customer-vehicles/") + cast(row.id, String)
    rows = await session.scalars(
        select(row)
        .where(
            row.dealership_id == wanted.dealership_id,
            or_(by_vin, exists().where(RecallRow.organization_id == row.organization_id, by_model)),
            _is_left(subject, wanted),
        )
        .order_by(row.changed_at, row.external_key)
        .limit(wanted.limit)
    )
    return [
        Subject(
            subject=f"customer-vehicles/{row.id}",
            data={
                "contact_id": str(row.contact_id),
                "customer_name": row.customer_name,
                "channel": row.channel,
                "vin": row.vin,
                "make": row.make,
                "vehicle_model": row.vehicle_model,
                "year": row.year,
            },
        )
        for row in rows
    ]


async def _aged_inventory(session: AsyncSession, wanted: Wanted) -> Sequence[Subject]:
    """The vehicles that have been available for 30, 45, 60 or 90 days: each is another subject at each age."""
    row = InventoryVehicleRow
    days = func.floor(extract("epoch", literal(wanted.by, DateTime(timezone=True)) - row.listed_at) / DAY_S)
    age = case(*((days >= one, one) for one in AGES_DAYS))
    subject = literal("stock-age/") + row.stock_number + "/" + cast(age, String)
    rows = await session.execute(
        select(row, days.label("days"), age.label("age"))
        .where(
            row.dealership_id == wanted.dealership_id,
            row.status == "available",
            days >= min(AGES_DAYS),
            _is_left(subject, wanted),
        )
        .order_by(row.listed_at, row.stock_number)
        .limit(wanted.limit)
    )
    return [
        Subject(
            subject=f"stock-age/{vehicle.stock_number}/{age}",
            data={
                "stock_number": vehicle.stock_number,
                "vin": vehicle.vin,
                "year": vehicle.year,
                "make": vehicle.make,
                "vehicle_model": vehicle.vehicle_model,
                "trim": vehicle.trim,
                "condition": vehicle.condition,
                "price_nusd": vehicle.price_nusd,
                "days_in_stock": int(days),
                "age": age,
            },
        )
        for vehicle, days, age in rows
    ]


def _is_left(subject: ColumnElement[str], wanted: Wanted) -> ColumnElement[bool]:
    """True where the workflow did not take the subject up lately."""
    if wanted.taken_up is None:
        return true()
    return subject.not_in(
        select(ExecutionRow.subject).where(
            ExecutionRow.workflow_id == wanted.taken_up.workflow_id,
            ExecutionRow.dealership_id == wanted.dealership_id,
            ExecutionRow.created_at > wanted.taken_up.since,
        )
    )


_QUERIES: Mapping[Audience, Callable[[AsyncSession, Wanted], Awaitable[Sequence[Subject]]]] = {
    Audience.VEHICLES_DUE_FOR_SERVICE: _vehicles_due_for_service,
    Audience.VEHICLES_WITH_OPEN_RECALLS: _vehicles_with_open_recalls,
    Audience.AGED_INVENTORY: _aged_inventory,
}
