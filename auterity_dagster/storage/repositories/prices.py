"""An organization's own prices: imported, approved by a second person where they change much, never edited."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID, uuid4

from sqlalchemy import Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.relaycore.price_change import PriceChange
from auterity_dagster.relaycore.price_list import PriceEntry
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.storage.tables.steering import PriceRow


async def own_prices(session: AsyncSession) -> tuple[Price, ...]:
    """Return the organization's approved prices."""
    return tuple(price_of(row) for row in await session.scalars(_approved()))


def own_prices_blocking(session: Session) -> tuple[Price, ...]:
    """The same for synchronous code."""
    return tuple(price_of(row) for row in session.scalars(_approved()))


def price_of(row: PriceRow) -> Price:
    """Return what a stored entry says."""
    return PriceEntry.model_validate(row.entry).price()


async def entries(session: AsyncSession, *, is_waiting: bool | None, limit: int) -> Sequence[PriceRow]:
    """Return imported entries, the newest first; `is_waiting`: only those that nobody approved, or only the others."""
    query = select(PriceRow).order_by(PriceRow.imported_at.desc(), PriceRow.key, PriceRow.in_force_from.desc())
    if is_waiting is not None:
        query = query.where(PriceRow.approved_at.is_(None) if is_waiting else PriceRow.approved_at.is_not(None))
    return (await session.scalars(query.limit(limit))).all()


async def import_prices(
    session: AsyncSession, organization_id: UUID, changes: Sequence[PriceChange], *, by: UUID
) -> Sequence[PriceRow]:
    """Store entries; those that need no second person are in force from their day on.

    Raises `Conflict` where an entry was imported before, or where its day has an approved one: all are refused then.
    """
    rows = [
        PriceRow(
            organization_id=organization_id,
            id=uuid4(),
            key=one.price.key,
            in_force_from=one.price.in_force_from,
            entry=one.entry.model_dump(mode="json"),
            digest=one.price.digest,
            change_percent=one.change_percent,
            imported_by=by,
            approved_by=None if one.needs_approval else by,
            approved_at=None if one.needs_approval else func.now(),
        )
        for one in changes
    ]
    for row in rows:
        session.add(row)
        try:
            await session.flush()
        except IntegrityError as error:
            raise _taken(row.key, row.in_force_from) from error
        await session.refresh(row)
    return rows


async def approve_price(session: AsyncSession, entry_id: UUID, *, by: UUID) -> PriceRow:
    """Let an entry take effect. Raises `NotFound`, or `Conflict` for who imported it, and where it is decided."""
    row = await session.scalar(select(PriceRow).where(PriceRow.id == entry_id))
    if row is None:
        raise NotFound("There is no such price entry")
    if row.imported_by == by:
        raise Conflict("Another person than the one who imported a price approves it", code="second_person_needed")
    approving = (
        update(PriceRow)
        .where(PriceRow.id == entry_id, PriceRow.approved_at.is_(None))
        .values(approved_by=by, approved_at=func.now())
        .returning(PriceRow.id)
        .execution_options(synchronize_session=False)
    )
    try:
        approved = await session.scalar(approving)
    except IntegrityError as error:
        raise _taken(row.key, row.in_force_from) from error
    if approved is None:
        raise Conflict("The price is approved already", code="price_state")
    await session.refresh(row)
    return row


def _approved() -> Select[PriceRow]:
    return select(PriceRow).where(PriceRow.approved_at.is_not(None)).order_by(PriceRow.key, PriceRow.in_force_from)


def _taken(key: str, day: date) -> Conflict:
    message = (
        f"{key} has this entry or an approved one for {day.isoformat()}: entries are never changed, use another day"
    )
    return Conflict(message, code="price_exists", price_key=key, in_force_from=day.isoformat())
