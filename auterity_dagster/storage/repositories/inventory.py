"""A dealership's stock: fed row by row, searched by what a customer asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

from sqlalchemy import Select, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.inventory_fit import best_fits, wishes
from auterity_dagster.automatrix.ports import StockVehicle
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.inbound import InventoryVehicleRow

CANDIDATES = 200
BATCH = 1000


@dataclass(frozen=True, slots=True)
class PostgresInventory:
    """`automatrix.ports.Inventory` over the feed's table."""

    database: BlockingDatabase

    def search(
        self, organization_id: UUID, dealership_id: UUID, wanted: Sequence[Mapping[str, object]], limit: int
    ) -> tuple[StockVehicle, ...]:
        with self.database.begin(organization_id) as session:
            return search(session, dealership_id=dealership_id, wanted=wanted, limit=limit)


def search(
    session: Session, *, dealership_id: UUID, wanted: Sequence[Mapping[str, object]], limit: int
) -> tuple[StockVehicle, ...]:
    """Return up to `limit` vehicles of the dealership that fit a wish, the best first."""
    query = _candidates(dealership_id, wishes(wanted))
    stock = () if query is None else tuple(_vehicle(row) for row in session.scalars(query))
    return best_fits(stock, wanted=wanted, limit=limit)


async def search_async(
    session: AsyncSession, *, dealership_id: UUID, wanted: Sequence[Mapping[str, object]], limit: int
) -> tuple[StockVehicle, ...]:
    """The same for async code."""
    return await session.run_sync(search, dealership_id=dealership_id, wanted=wanted, limit=limit)


def feed_blocking(session: Session, vehicles: Iterable[StockVehicle], *, dealership_id: UUID, now: datetime) -> int:
    """Insert or replace vehicles by their stock number; returns how many. Later rows of one number win."""
    rows = {
        vehicle.stock_number: {
            "organization_id": organization_of(session), "dealership_id": dealership_id, "fed_at": now,
            "listed_at": now, "stock_number": vehicle.stock_number, "vin": vehicle.vin, "condition": vehicle.condition,
            "status": vehicle.status, "year": vehicle.year, "make": vehicle.make, "trim": vehicle.trim,
            "vehicle_model": vehicle.vehicle_model, "price_nusd": vehicle.price_nusd,
        }
        for vehicle in vehicles
    }  # fmt: skip
    # In one order everywhere: two feeds at once cannot wait for each other's rows.
    ordered = [rows[number] for number in sorted(rows)]
    for start in range(0, len(ordered), BATCH):
        statement = insert(InventoryVehicleRow).values(ordered[start : start + BATCH])
        key = {"organization_id", "dealership_id", "stock_number"}
        changed = {name: statement.excluded[name] for name in ordered[0] if name not in key | {"listed_at"}}
        session.execute(statement.on_conflict_do_update(index_elements=sorted(key), set_=changed))
    return len(ordered)


async def feed(session: AsyncSession, vehicles: Iterable[StockVehicle], *, dealership_id: UUID, now: datetime) -> int:
    """The same for async code."""
    return await session.run_sync(feed_blocking, vehicles, dealership_id=dealership_id, now=now)


def _candidates(dealership_id: UUID, wanted: Sequence[Mapping[str, object]]) -> Select[InventoryVehicleRow] | None:
    row = InventoryVehicleRow
    conditions: list[Any] = []
    for wish in wanted:
        conditions += [func.lower(row.stock_number) == number.lower() for number in _text(wish, "stock_number")]
        conditions += [row.vin == vin.upper() for vin in _text(wish, "vin")]
        conditions += [
            (func.lower(row.make) == make.lower()) & (func.lower(row.vehicle_model) == model.lower())
            for make in _text(wish, "make")
            for model in _text(wish, "vehicle_model")
        ]
    if not conditions:
        return None
    return select(row).where(row.dealership_id == dealership_id, or_(*conditions)).limit(CANDIDATES)


def _text(wish: Mapping[str, object], name: str) -> list[str]:
    value = wish.get(name)
    return [value.strip()] if isinstance(value, str) and value.strip() else []


def _vehicle(row: InventoryVehicleRow) -> StockVehicle:
    return StockVehicle(
        stock_number=row.stock_number,
        vin=row.vin,
        year=row.year,
        make=row.make,
        vehicle_model=row.vehicle_model,
        trim=row.trim,
        condition=cast(Literal["new", "used"] | None, row.condition),
        status=cast(Literal["available", "on hold", "sold", "unlisted"], row.status),
        price_nusd=row.price_nusd,
    )
