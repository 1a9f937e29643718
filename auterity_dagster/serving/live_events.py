"""Background work of an API process: numbers the outbox, wakes live connections, judges what was left behind."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auterity_dagster.background import running_beside
from auterity_dagster.clock import Clock
from auterity_dagster.serving.delivery import OUTAGES, judge_the_rest
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import outbox_relay

CHANNEL = "auterity:live"
RETENTION = timedelta(days=7)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LiveTimes:
    """How often the background work looks; `poll_s` is how late an event is at most while Redis is down."""

    relay_s: float = 0.2
    poll_s: float = 1.0
    judge_s: float = 5.0
    prune_s: float = 3600.0


@dataclass(slots=True)
class Head:
    """An organization's last position as this process knows it; `moved` is set and replaced when it rises."""

    position: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    def raise_to(self, position: int) -> None:
        """Wake everybody who waits, if this is news."""
        if position > self.position:
            self.position = position
            self.moved.set()
            self.moved = asyncio.Event()

    async def beyond(self, position: int) -> None:
        """Wait until the head is past a position."""
        while self.position <= position:
            await self.moved.wait()


class LiveEvents:
    """The heads of the organizations that have live connections here.

    What connections send, they read from PostgreSQL. Redis only says that there is something to read: without it the
    heads are read each second.
    """

    def __init__(self, database: Database, redis: Redis, *, pepper: bytes, clock: Clock, times: LiveTimes) -> None:
        self._database = database
        self._redis = redis
        self._pepper = pepper
        self._clock = clock
        self._times = times
        self._heads: dict[UUID, Head] = {}

    @asynccontextmanager
    async def watching(self, organization_id: UUID) -> AsyncGenerator[Head]:
        """Keep an organization's head up to date for one connection."""
        head = self._heads.setdefault(organization_id, Head())
        head.connections += 1
        try:
            await self._read_head(organization_id)
            yield head
        finally:
            head.connections -= 1
            if head.connections == 0:
                self._heads.pop(organization_id, None)

    async def relay(self) -> None:
        """Number what committed, then tell every process."""
        async with self._database.begin_without_organization() as session:
            waiting = await outbox_relay.unnumbered(session)
        for organization_id in waiting:
            async with self._database.begin(organization_id) as session:
                head = await outbox_relay.number(session)
            if head is not None:
                self._raise(organization_id, head)
                await self._tell(organization_id, head)

    async def poll(self) -> None:
        """Read the heads of the organizations with connections here: what Redis told of, and what it did not."""
        for organization_id in tuple(self._heads):
            await self._read_head(organization_id)

    async def prune(self) -> None:
        """Delete what is older than a week: an older cursor gets a gap."""
        before = self._clock.now() - RETENTION
        async with self._database.begin_without_organization() as session:
            aged = await outbox_relay.aged(session, before=before)
        for organization_id in aged:
            async with self._database.begin(organization_id) as session:
                await outbox_relay.prune(session, before=before)

    async def judge(self) -> None:
        """Judge deliveries that were stored and not judged."""
        await judge_the_rest(self._database, pepper=self._pepper, clock=self._clock)

    async def listen(self) -> None:
        """Raise heads as other processes tell of them, until Redis breaks off."""
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    organization_id, _, position = bytes(message["data"]).decode().partition(" ")
                    self._raise(UUID(organization_id), int(position))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Work in the background until the block ends."""
        times = self._times
        works: tuple[tuple[Callable[[], Awaitable[None]], float], ...] = (
            (self.relay, times.relay_s),
            (self.poll, times.poll_s),
            (self.listen, times.poll_s),
            (self.judge, times.judge_s),
            (self.prune, times.prune_s),
        )
        async with running_beside(*(_repeat(work, every_s=every_s) for work, every_s in works)):
            yield

    async def _read_head(self, organization_id: UUID) -> None:
        async with self._database.begin(organization_id) as session:
            self._raise(organization_id, await outbox_relay.head(session))

    def _raise(self, organization_id: UUID, position: int) -> None:
        head = self._heads.get(organization_id)
        if head is not None:
            head.raise_to(position)

    async def _tell(self, organization_id: UUID, position: int) -> None:
        try:
            await self._redis.publish(CHANNEL, f"{organization_id} {position}")
        except (RedisError, OSError) as error:
            _log.warning("live_events_not_told", error=type(error).__name__)


async def _repeat(work: Callable[[], Awaitable[None]], *, every_s: float) -> None:
    """Do it again and again; an outage ends one turn, anything else is told and ends one turn too."""
    while True:
        try:
            await work()
        except (*OUTAGES, RedisError, OSError) as error:
            _log.warning("live_work_interrupted", work=work.__name__, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 -- a worker's outer loop: one bad row must not end live events
            _log.error("live_work_failed", work=work.__name__, error=type(error).__name__)
        await asyncio.sleep(every_s)
