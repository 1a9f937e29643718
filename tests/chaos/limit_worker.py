"""One process that asks rate limits for admission at a steady pace; it reads its orders from standard input."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from redis.asyncio import Redis

from auterity_dagster.background import running_beside
from auterity_dagster.errors import RateLimited
from auterity_dagster.relaycore.chat import Caller
from auterity_dagster.relaycore.rate_limit import RateLimit
from auterity_dagster.serving.relaycore.presence import Presence
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.redis_rate_limits import RedisRateLimits


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker does. `variant` is `shared`, or `alone`: the control, which grants the full limit by itself."""

    variant: str
    database_url: str
    redis_url: str
    organization_id: str
    limit: int
    per_second: float
    seconds: float
    clock_ahead_s: float
    history: str


def limits_of(orders: Orders, redis: Redis, presence: Presence) -> RedisRateLimits:
    organization_id = UUID(orders.organization_id)
    limit = RateLimit("organization", organization_id, requests_per_minute=orders.limit, tokens_per_minute=None)

    async def of_organization(_organization_id: UUID) -> dict[UUID, RateLimit]:
        return {organization_id: limit}

    return RedisRateLimits(
        redis,
        limits_of=of_organization,
        live=(lambda: presence.live) if orders.variant == "shared" else (lambda: 1),
        now=lambda: time.monotonic() + orders.clock_ahead_s,
    )


async def work(orders: Orders) -> None:
    """Ask at the pace, whatever the answers, and write down when each was admitted."""
    database = Database(orders.database_url)
    presence = Presence(database)
    # The control's Redis is never there: each process is on its own.
    url = orders.redis_url if orders.variant == "shared" else "redis://127.0.0.1:9"
    redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    limits = limits_of(orders, redis, presence)
    organization_id = UUID(orders.organization_id)
    caller = Caller(organization_id=organization_id, key_id=organization_id, dealership_id=None, purpose="workflow")
    async with running_beside(presence.beat_for_ever()):
        with Path(orders.history).open("w") as history:  # noqa: ASYNC230 - a few lines a second
            print("ready", flush=True)  # noqa: T201 - the test waits for it
            await asyncio.to_thread(sys.stdin.readline)
            begun_s = time.monotonic()
            for number in range(int(orders.seconds * orders.per_second)):
                await asyncio.sleep(max(begun_s + number / orders.per_second - time.monotonic(), 0))
                try:
                    await limits.admit(caller, tokens=1)
                except RateLimited:
                    continue
                history.write(f"{time.monotonic()} {int(limits.is_local)}\n")
    await redis.aclose()
    await database.close()


if __name__ == "__main__":
    asyncio.run(work(Orders(**json.loads(sys.stdin.readline()))))
