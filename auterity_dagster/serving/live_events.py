"""Background work of an API process: numbers the outbox, wakes live connections, judges what was left behind."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auterity_dagster.background import running_beside
from auterity_dagster.clock import Clock
from auterity_dagster.serving.delivery import judge_the_rest
from auterity_dagster.serving.repeated_work import repeated
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import outbox_relay
from auterity_dagster.storage.repositories.outbox_relay import LiveEvent

CHANNEL = "auterity:live"
RETENTION = timedelta(days=7)
RECENT = 2_000
"""Events of an organization that a process keeps while somebody listens; older ones are read for whoever asks."""
READ_AT_ONCE = 500
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
    """An organization's last position as this process knows it; `moved` is set and replaced when it rises.

    `recent` has every event beyond `recent_after` up to `position`: what a hundred connections wait for is read once.
    """

    position: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    recent: list[LiveEvent] = field(default_factory=list[LiveEvent])
    recent_after: int = 0
    is_begun: bool = False

    def begin_at(self, position: int) -> None:
        """Know where the organization stands, with no event yet; later it is known better."""
        if not self.is_begun:
            self.position = self.recent_after = position
            self.is_begun = True

    def extend(self, events: Sequence[LiveEvent]) -> None:
        """Take the events after the position, and wake everybody who waits; what is known already is no news."""
        news = [event for event in events if event.position > self.position]
        if not news:
            return
        self.recent += news
        self.position = news[-1].position
        if len(self.recent) > RECENT:
            dropped = len(self.recent) - RECENT // 2
            self.recent_after = self.recent[dropped - 1].position
            del self.recent[:dropped]
        self.moved.set()
        self.moved = asyncio.Event()

    def after(self, cursors: Mapping[str, int], *, limit: int) -> list[LiveEvent] | None:
        """Return what `outbox_relay.after` would; None if a cursor lies before what is known here."""
        oldest = min(cursors.values(), default=self.position)
        if oldest < self.recent_after:
            return None
        first = bisect_right(self.recent, oldest, key=lambda event: event.position)
        wanted = (
            event
            for event in islice(self.recent, first, None)
            if (cursor := cursors.get(event.topic)) is not None and event.position > cursor
        )
        return list(islice(wanted, limit))

    async def beyond(self, position: int) -> None:
        """Wait until the head is past a position."""
        while self.position <= position:
            await self.moved.wait()


class LiveEvents:
    """The heads of the organizations that have live connections here.

    Events are read from PostgreSQL, once for all connections. Redis only says that there is something to read: without
    it the heads are read each second.
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
            if not head.is_begun:
                async with self._database.begin(organization_id) as session:
                    head.begin_at(await outbox_relay.head(session))
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
                await self._read_on(organization_id)
                await self._tell(organization_id, head)

    async def poll(self) -> None:
        """Read the heads of the organizations with connections here: what Redis told of, and what it did not."""
        for organization_id in tuple(self._heads):
            await self._read_on(organization_id)

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
                    await self._read_on(UUID(organization_id), told=int(position))

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
        async with running_beside(*(repeated(work, every_s=every_s) for work, every_s in works)):
            yield

    async def _read_on(self, organization_id: UUID, *, told: int | None = None) -> None:
        """Read what came after the head; nothing if `told` is a position that is known."""
        head = self._heads.get(organization_id)
        while head is not None and head.is_begun and (told is None or told > head.position):
            async with self._database.begin(organization_id) as session:
                events = await outbox_relay.beyond(session, head.position, limit=READ_AT_ONCE)
            head.extend(events)
            if len(events) < READ_AT_ONCE:
                return

    async def _tell(self, organization_id: UUID, position: int) -> None:
        try:
            await self._redis.publish(CHANNEL, f"{organization_id} {position}")
        except (RedisError, OSError) as error:
            _log.warning("live_events_not_told", error=type(error).__name__)
