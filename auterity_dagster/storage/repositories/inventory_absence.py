"""Vehicles that a whole feed no longer names: unlisted with it, or kept until a person decides."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.inventory_absence import Absence, absence
from auterity_dagster.automatrix.ports import StockVehicle
from auterity_dagster.errors import NotFound
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.inventory import feed_blocking
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.tables.inbound import InventoryAbsenceRow, InventoryVehicleRow

ON_OFFER = ("available", "on hold")


def feed_whole_blocking(
    session: Session,
    vehicles: Iterable[StockVehicle],
    *,
    named: Collection[str],
    dealership_id: UUID,
    now: datetime,
) -> tuple[int, Absence]:
    """Take a feed of the whole stock; returns how many vehicles it brought, and which it no longer names.

    Those are unlisted in the same transaction. If a person has to look first, they stay on offer and are remembered;
    a later feed decides anew.
    """
    row = InventoryVehicleRow
    listed = session.scalars(
        select(row.stock_number).where(row.dealership_id == dealership_id, row.status.in_(ON_OFFER))
    ).all()
    taken = feed_blocking(session, vehicles, dealership_id=dealership_id, now=now)
    missing = absence(listed, named)
    session.execute(delete(InventoryAbsenceRow).where(InventoryAbsenceRow.dealership_id == dealership_id))
    if missing.needs_a_person:
        _remember(session, missing, dealership_id=dealership_id, now=now)
    else:
        _unlist(session, missing.gone, dealership_id=dealership_id)
    return taken, missing


async def feed_whole(
    session: AsyncSession,
    vehicles: Iterable[StockVehicle],
    *,
    named: Collection[str],
    dealership_id: UUID,
    now: datetime,
) -> tuple[int, Absence]:
    """The same for async code."""
    return await session.run_sync(feed_whole_blocking, vehicles, named=named, dealership_id=dealership_id, now=now)


async def waiting(session: AsyncSession) -> Sequence[InventoryAbsenceRow]:
    """Return what waits for a person, the oldest first."""
    return (await session.scalars(select(InventoryAbsenceRow).order_by(InventoryAbsenceRow.fed_at))).all()


async def decide(session: AsyncSession, dealership_id: UUID, *, is_gone: bool) -> int:
    """Unlist what a feed did not name, or keep it on offer; returns how many. Raises `NotFound` if nothing waits."""
    which = delete(InventoryAbsenceRow).where(InventoryAbsenceRow.dealership_id == dealership_id)
    row = await session.scalar(which.returning(InventoryAbsenceRow))
    if row is None:
        raise NotFound("nothing of this dealership's stock waits for a decision")
    return await session.run_sync(_unlist, row.gone, dealership_id=dealership_id) if is_gone else len(row.gone)


def _unlist(session: Session, gone: Sequence[str], *, dealership_id: UUID) -> int:
    row = InventoryVehicleRow
    which = update(row).where(row.dealership_id == dealership_id, row.stock_number.in_(gone), row.status.in_(ON_OFFER))
    return len(session.scalars(which.values(status="unlisted").returning(row.stock_number)).all())


def _remember(session: Session, missing: Absence, *, dealership_id: UUID, now: datetime) -> None:
    organization_id = organization_of(session)
    session.execute(
        insert(InventoryAbsenceRow).values(
            organization_id=organization_id,
            dealership_id=dealership_id,
            listed=missing.listed,
            gone=list(missing.gone),
            fed_at=now,
        )
    )
    told = {"dealership_id": str(dealership_id), "listed": missing.listed, "gone": len(missing.gone)}
    session.execute(announcement(organization_id, topic="inbound", kind="inventory.shrunk", payload=told, now=now))
