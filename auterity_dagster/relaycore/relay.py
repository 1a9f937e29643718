"""A stream on its way: read from the provider by a task of its own, so that the bill is known whoever listens."""

import asyncio
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import structlog

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.chat import StreamFrame
from auterity_dagster.relaycore.steering_policy import Deadlines

QUEUE_FRAMES = 256
MAX_HELD_FRAMES = 64
MAX_HELD_BYTES = 256 * 1024
DRAIN_S = 30.0

_log = structlog.get_logger()

Finished = Callable[[Attempt, ProviderFailed | None], Awaitable[None]]


class Relay:
    """One attempt's stream between the provider and a bounded queue.

    `pump` runs as a task of its own, to the provider's end or to a failure, and closes the attempt through `finished`
    in either case. A slow caller stops the reading, not the deadline. A caller that leaves is drained for or cut off.
    """

    def __init__(self, attempt: Attempt, *, deadlines: Deadlines, deadline_s: float, finished: Finished) -> None:
        self.attempt = attempt
        self._deadlines, self._deadline_s, self._finished = deadlines, deadline_s, finished
        self._queue: asyncio.Queue[StreamFrame | ProviderFailed | None] = asyncio.Queue(QUEUE_FRAMES)
        self._held: deque[StreamFrame] = deque()
        self._left = asyncio.Event()
        self._cut = asyncio.Event()

    async def pump(self, source: AsyncGenerator[StreamFrame]) -> None:
        """Read the provider to its end. A failure is told through the queue and to `finished`, never raised."""
        failure: ProviderFailed | None = self._failure("the gateway stopped", "connection")
        try:
            async with aclosing(source):
                await self._read(source)
            failure = None
        except ProviderFailed as error:
            failure = error
        except TimeoutError:
            failure = self._failure("the provider fell silent or the deadline passed", "timeout")
        except Exception as error:  # noqa: BLE001 - a task's outer loop: one broken stream must not end the others
            # Frames and not values: a value may be the caller's text.
            where = traceback.format_tb(error.__traceback__)[-2:]
            _log.error("stream_broken", error=type(error).__name__, where=where)
            failure = self._failure(f"unreadable ({type(error).__name__})", "malformed")
        finally:
            # Also when this task is cancelled (shutdown): what was billed is unknown then, and is booked as that.
            await asyncio.shield(self._finished(self.attempt, failure))
        await self._offer(failure)

    async def first_content(self) -> None:
        """Wait for the commit boundary: the first thing the model said. Raises `ProviderFailed` if none comes."""
        while True:
            item = await self._queue.get()
            if isinstance(item, ProviderFailed):
                raise item
            if item is not None:
                self._held.append(item)
                if item.has_content:
                    return

    async def frames(self, *, heartbeat_s: float) -> AsyncIterator[StreamFrame | None]:
        """Yield what was held and what follows; None where nothing came for a heartbeat.

        Raises `ProviderFailed` when the provider breaks off: then no end frame may be sent.
        """
        while self._held:
            yield self._held.popleft()
        while True:
            try:
                async with asyncio.timeout(heartbeat_s):
                    item = await self._queue.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(item, ProviderFailed):
                raise item
            if item is None:
                return
            yield item

    def leave(self) -> None:
        """The caller is gone: read on without it for at most 30 s, or stop, as the deployment bills."""
        self._left.set()
        if self.attempt.step.deployment.is_drained:
            self._deadline_s = min(self._deadline_s, time.monotonic() + DRAIN_S)
        else:
            self._cut.set()
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _read(self, source: AsyncGenerator[StreamFrame]) -> None:
        limit_s, frames, size = self._deadlines.first_token_s, 0, 0
        while True:
            try:
                async with asyncio.timeout(min(limit_s, self._deadline_s - time.monotonic())):
                    frame = await anext(source)
            except StopAsyncIteration:
                break
            self.attempt.note(frame.report, frame.provider_request_id)
            if frame.has_content:
                self.attempt.note_first_token()
                limit_s = self._deadlines.idle_s
            frames, size = frames + 1, size + len(frame.data)
            if self.attempt.first_token_ms is None and (frames > MAX_HELD_FRAMES or size > MAX_HELD_BYTES):
                raise self._failure("nothing but frames without content", "malformed")
            await self._offer(frame)
            if self._cut.is_set():
                raise self._failure("the caller left", "connection")
        if self.attempt.first_token_ms is None:
            raise self._failure("the stream ended before the model said anything", "malformed")

    async def _offer(self, item: StreamFrame | ProviderFailed | None) -> None:
        """Put an item where the caller finds it; nobody waits for one who left, or who is slower than the deadline."""
        while not self._left.is_set():
            try:
                async with asyncio.timeout(min(1.0, max(self._deadline_s - time.monotonic(), 0.01))):
                    await self._queue.put(item)
            except TimeoutError:
                if time.monotonic() >= self._deadline_s:
                    self._left.set()
                continue
            return

    def _failure(self, message: str, cause: str) -> ProviderFailed:
        deployment = self.attempt.step.deployment.id
        return ProviderFailed(f"{deployment}: {message}", deployment=deployment, cause=cause, is_billed=None)
