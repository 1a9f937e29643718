"""An event reaches workflows: waits that match it end, and every workflow that wants it starts."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.event import Event
from auterity_dagster.storage.repositories.triggering import start_executions
from auterity_dagster.storage.repositories.waits import end_waits


@dataclass(frozen=True, slots=True)
class Delivered:
    """The executions that an event started, and those that had waited for it."""

    started: tuple[UUID, ...]
    continued: tuple[UUID, ...]


async def deliver(session: AsyncSession, event: Event) -> Delivered:
    """Deliver an event in the caller's transaction; repeating it starts nothing."""
    return await session.run_sync(deliver_blocking, event)


def deliver_blocking(session: Session, event: Event) -> Delivered:
    """The same for synchronous code."""
    return Delivered(continued=end_waits(session, event), started=start_executions(session, event))
