"""The way of every delivery, signed or posted with a key: stored first, judged afterwards, never a false 202."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.automatrix.inbound import InboundState
from auterity_dagster.clock import Clock
from auterity_dagster.errors import Unavailable
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import inbound_events
from auterity_dagster.storage.repositories.inbound_events import Delivery
from auterity_dagster.storage.repositories.inbound_judgement import judge

OUTAGES = (OperationalError, InterfaceError, PoolTimeout)
UNJUDGED_AFTER = timedelta(seconds=5)
UNJUDGED_BATCH = 50
_log = structlog.get_logger(__name__)


@asynccontextmanager
async def or_unavailable() -> AsyncGenerator[None]:
    """Answer 503 with Retry-After while PostgreSQL is away: nothing was taken."""
    try:
        yield
    except OUTAGES as error:
        raise Unavailable("deliveries cannot be stored at the moment", retry_after_s=5) from error


async def take(
    database: Database, organization_id: UUID, delivery: Delivery, *, pepper: bytes, clock: Clock
) -> tuple[UUID, InboundState]:
    """Store a delivery, then judge it; what was stored and not judged is judged later.

    Raises `Unavailable` when it was not stored, and `Conflict` when its id was used for another body.
    """
    async with or_unavailable(), database.begin(organization_id) as session:
        event_id = await inbound_events.store(session, delivery, pepper=pepper)
    try:
        async with database.begin(organization_id) as session:
            state = await judge(session, event_id, pepper=pepper, now=clock.now())
    except OUTAGES as error:
        _log.warning("judging_postponed", inbound_event_id=str(event_id), error=type(error).__name__)
        state = "received"
    return event_id, state


async def judge_the_rest(database: Database, *, pepper: bytes, clock: Clock) -> int:
    """Judge deliveries whose process died between storing and judging; returns how many."""
    now = clock.now()
    async with database.begin_without_organization() as session:
        left = await inbound_events.unjudged(session, before=now - UNJUDGED_AFTER, limit=UNJUDGED_BATCH)
    for organization_id, event_id in left:
        async with database.begin(organization_id) as session:
            await judge(session, event_id, pepper=pepper, now=now)
    return len(left)
