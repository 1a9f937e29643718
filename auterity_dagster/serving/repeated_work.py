"""Background work of a server: done again and again, whatever becomes of one turn."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from auterity_dagster.serving.delivery import OUTAGES

_log = structlog.get_logger(__name__)


async def repeated(work: Callable[[], Awaitable[object]], *, every_s: float) -> None:
    """Do it again and again; an outage ends one turn, anything else is told and ends one turn too."""
    while True:
        try:
            await work()
        except (*OUTAGES, RedisError, OSError) as error:
            _log.warning("live_work_interrupted", work=work.__name__, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 -- a worker's outer loop: one bad row must not end live events
            _log.error("live_work_failed", work=work.__name__, error=type(error).__name__)
        await asyncio.sleep(every_s)
