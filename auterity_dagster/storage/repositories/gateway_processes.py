"""Which gateway processes live: each writes down that it does, and counts the others."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

LIVE_S = 15
FORGOTTEN_S = 600

_BEAT = text("""
    INSERT INTO gateway_process (id) VALUES (:id) ON CONFLICT (id) DO UPDATE SET heartbeat_at = now()
""")
_FORGET = text("DELETE FROM gateway_process WHERE heartbeat_at < now() - make_interval(secs => :forgotten_s)")
_COUNT = text("SELECT count(*) FROM gateway_process WHERE heartbeat_at > now() - make_interval(secs => :live_s)")
_LEAVE = text("DELETE FROM gateway_process WHERE id = :id")


async def beat(session: AsyncSession, process_id: UUID) -> int:
    """Say that this process lives; return how many do, on the database's clock."""
    await session.execute(_BEAT, {"id": process_id})
    await session.execute(_FORGET, {"forgotten_s": FORGOTTEN_S})
    return (await session.execute(_COUNT, {"live_s": LIVE_S})).scalar_one()


async def leave(session: AsyncSession, process_id: UUID) -> None:
    """Say that this process ends."""
    await session.execute(_LEAVE, {"id": process_id})
