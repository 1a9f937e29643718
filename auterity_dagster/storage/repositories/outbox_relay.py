"""Live events: rows of the outbox get their positions after their transactions committed, and are read in that order.

A number taken inside a transaction becomes visible out of order, and a client that resumes after it misses the rows
below that commit later. Here one statement at a time numbers an organization's committed rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.inbound import OutboxHeadRow
from auterity_dagster.storage.tables.workflows import OutboxRow

UNNUMBERED = text("SELECT organization_id FROM organizations_with_unnumbered_outbox()")
AGED = text("SELECT organization_id FROM organizations_with_aged_outbox(:before)")
LEAD = text("SELECT pg_try_advisory_xact_lock(hashtextextended('auterity outbox relay', 0))")
NUMBER = text(
    "WITH next AS (SELECT id, row_number() OVER (ORDER BY created_at, id) AS step FROM outbox "
    "WHERE organization_id = :organization_id AND position IS NULL) "
    "UPDATE outbox SET position = :base + next.step FROM next "
    "WHERE outbox.organization_id = :organization_id AND outbox.id = next.id"
)


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One announcement at its place; positions of a topic rise and have holes."""

    topic: str
    position: int
    kind: str
    payload: Mapping[str, Any]
    at: datetime


async def unnumbered(session: AsyncSession) -> Sequence[UUID]:
    """Return the organizations with rows to number."""
    return list(await session.scalars(UNNUMBERED))


async def aged(session: AsyncSession, *, before: datetime) -> Sequence[UUID]:
    """Return the organizations with numbered rows from before that moment."""
    return list(await session.scalars(AGED, {"before": before}))


async def number(session: AsyncSession) -> int | None:
    """Number the organization's committed rows and return its head; None while another process is at it."""
    if not await session.scalar(LEAD):
        return None
    organization_id = organization_of(session.sync_session)
    # The head's row stays locked until the commit: positions are given away in the order in which they become visible.
    base = await session.scalar(
        insert(OutboxHeadRow)
        .values(organization_id=organization_id, position=0)
        .on_conflict_do_update(index_elements=["organization_id"], set_={"position": OutboxHeadRow.position})
        .returning(OutboxHeadRow.position)
    )
    assert base is not None
    numbered = await session.connection()
    count = (await numbered.execute(NUMBER, {"organization_id": organization_id, "base": base})).rowcount
    raised = insert(OutboxHeadRow).values(organization_id=organization_id, position=base + count)
    await session.execute(
        raised.on_conflict_do_update(index_elements=["organization_id"], set_={"position": raised.excluded.position})
    )
    return base + count


async def head(session: AsyncSession) -> int:
    """Return the last position the organization gave away."""
    return await session.scalar(select(OutboxHeadRow.position)) or 0


async def oldest(session: AsyncSession) -> int | None:
    """Return the first position that is still stored."""
    return await session.scalar(select(func.min(OutboxRow.position)))


async def after(session: AsyncSession, cursors: Mapping[str, int], *, limit: int) -> list[LiveEvent]:
    """Return each topic's rows beyond its cursor in the order of their positions, at most `limit`."""
    if not cursors:
        return []
    wanted = [(OutboxRow.topic == topic) & (OutboxRow.position > cursor) for topic, cursor in cursors.items()]
    query = select(OutboxRow).where(OutboxRow.position.is_not(None), or_(*wanted)).order_by(OutboxRow.position)
    return _events(await session.scalars(query.limit(limit)))


async def beyond(session: AsyncSession, position: int, *, limit: int) -> list[LiveEvent]:
    """Return every topic's rows beyond a position, in order, at most `limit`."""
    query = select(OutboxRow).where(OutboxRow.position > position).order_by(OutboxRow.position)
    return _events(await session.scalars(query.limit(limit)))


def _events(rows: Iterable[OutboxRow]) -> list[LiveEvent]:
    return [
        LiveEvent(row.topic, row.position, row.type, row.payload, row.created_at)
        for row in rows
        if row.position is not None
    ]


async def prune(session: AsyncSession, *, before: datetime) -> None:
    """Delete numbered rows from before that moment; the head stays, so no position is ever given twice."""
    await session.execute(delete(OutboxRow).where(OutboxRow.position.is_not(None), OutboxRow.created_at < before))
