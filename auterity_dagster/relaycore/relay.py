"""A stream on its way: read from the provider by a task of its own, so that the bill is known whoever listens."""

import asyncio
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.chat import StreamFrame
from auterity_dagster.relaycore.frame_queue import FrameQueue, QueuedBytes
from auterity_dagster.relaycore.steering_policy import Deadlines

MAX_HELD_FRAMES = 64
MAX_HELD_BYTES = 256 * 1024
TIMER_SLACK_S = 0.05
"""How much later than its limit a silence may be noticed: setting a timer costs as much as the rest of a frame."""

READ_ON_S = 30.0
MAX_READ_ON = 100
"""Streams that one process reads on for callers who left; beyond it they are closed, and what they cost is unknown."""

_log = structlog.get_logger()

Finished = Callable[[Attempt, ProviderFailed | None], Awaitable[None]]


@dataclass(slots=True)
class Streams:
    """What the streams of one process share: the bytes in their queues, and how many are read for nobody."""

    queued: QueuedBytes = field(default_factory=QueuedBytes)
    read_on: int = 0
    queue: Callable[[QueuedBytes], FrameQueue[Any]] = FrameQueue


class Relay:
    """One attempt's stream between the provider and a bounded queue.

    `pump` runs as a task of its own, to the provider's end or to a failure, and closes the attempt through `finished`
    in either case. A slow caller stops the reading, not the deadline. A caller that leaves is drained for or cut off.
    """

    def __init__(
        self, attempt: Attempt, *, deadlines: Deadlines, deadline_s: float, finished: Finished, streams: Streams
    ) -> None:
        self.attempt = attempt
        self.is_broken = False
        """Whether the caller was told that the stream broke off."""
        self._deadlines, self._deadline_s, self._finished, self._streams = deadlines, deadline_s, finished, streams
        self._queue: FrameQueue[StreamFrame | ProviderFailed | None] = streams.queue(streams.queued)
        self._held: deque[StreamFrame] = deque()
        self._pumping: asyncio.Task[None] | None = None
        self._is_read_on = False
        self._is_done = False
        self._expected_s = 0.0

    @property
    def has_content_ready(self) -> bool:
        """True if `frames` yields more of what the model said without waiting: it can leave together."""
        head = self._held[0] if self._held else self._queue.head
        return isinstance(head, StreamFrame) and head.has_content

    async def pump(self, source: AsyncGenerator[StreamFrame]) -> None:
        """Read the provider to its end. A failure is told through the queue and to `finished`, never raised."""
        failure: ProviderFailed | None = self._failure("cut off here: the caller left or the process ends", "cancelled")
        self._pumping = asyncio.current_task()
        try:
            async with aclosing(source):
                await self._read(source)
            failure = None
        except ProviderFailed as error:
            failure = error
        except TimeoutError:
            cause = "cancelled" if self._is_read_on else "timeout"
            failure = self._failure("the provider fell silent or the deadline passed", cause)
        except Exception as error:  # noqa: BLE001 - a task's outer loop: one broken stream must not end the others
            # Frames and not values: a value may be the caller's text.
            where = traceback.format_tb(error.__traceback__)[-2:]
            _log.error("stream_broken", error=type(error).__name__, where=where)
            failure = self._failure(f"unreadable ({type(error).__name__})", "malformed")
        finally:
            self._is_done = True
            self._streams.read_on -= self._is_read_on
            # Also when this task is cancelled: what was billed is unknown then, and is booked as that.
            await asyncio.shield(self._finished(self.attempt, failure))
        await self._offer(failure, size=0)

    async def first_content(self) -> None:
        """Wait for the commit boundary: the first thing the model said. Raises `ProviderFailed` if none comes."""
        while True:
            item = await self._queue.get(within_s=None)
            if isinstance(item, ProviderFailed):
                raise item
            if item is not None:
                self._held.append(item)
                if item.has_content:
                    return

    async def frames(self, *, heartbeat_s: float) -> AsyncIterator[StreamFrame | None]:
        """Yield what was held and what follows; None where nothing came for a heartbeat.

        Raises `ProviderFailed` when the provider breaks off, or with the code `draining` when this process ends: then
        no end frame may be sent.
        """
        while self._held:
            yield self._held.popleft()
        while True:
            try:
                item = await self._queue.get(within_s=heartbeat_s)
            except TimeoutError:
                yield None
                continue
            if isinstance(item, ProviderFailed):
                self.is_broken = True
                raise item
            if item is None:
                return
            yield item

    def leave(self) -> None:
        """The caller is gone: read on without it for at most 30 s, or stop, as the deployment bills."""
        self._end_delivery(None)

    def interrupt(self) -> None:
        """This process ends: what the caller finds next is the error that says so."""
        self._end_delivery(self._failure("the gateway's process is ending", "cancelled", code="draining"))

    def _end_delivery(self, last: ProviderFailed | None) -> None:
        """Drop what waits for the caller but for a last error, and read on for nobody or stop reading."""
        self._queue.close(last)
        if self._is_done or self._is_read_on:
            return
        if self.attempt.step.deployment.is_drained and self._streams.read_on < MAX_READ_ON:
            self._is_read_on = True
            self._streams.read_on += 1
            self._deadline_s = time.monotonic() + READ_ON_S
        elif self._pumping is not None:
            self._pumping.cancel()

    async def _read(self, source: AsyncGenerator[StreamFrame]) -> None:
        frames, size = 0, 0
        async with asyncio.timeout(None) as silence:
            self._expect(silence, self._deadlines.first_token_s)
            async for frame in source:
                self.attempt.note(frame.report, frame.provider_request_id)
                if frame.has_content and self.attempt.first_token_ms is None:
                    self.attempt.note_first_token()
                    self._expected_s = 0.0
                if self.attempt.first_token_ms is None:
                    frames, size = frames + 1, size + len(frame.data)
                    if frames > MAX_HELD_FRAMES or size > MAX_HELD_BYTES:
                        raise self._failure("nothing but frames without content", "malformed")
                if not self._queue.has_room:
                    silence.reschedule(None)  # a slow caller stops the reading, not the provider's time
                    self._expected_s = 0.0
                await self._offer(frame, size=len(frame.data))
                if self.attempt.first_token_ms is not None:
                    self._expect(silence, self._deadlines.idle_s)
        if self.attempt.first_token_ms is None:
            raise self._failure("the stream ended before the model said anything", "malformed")

    def _expect(self, silence: asyncio.Timeout, limit_s: float) -> None:
        """Expect the next frame within the limit and the deadline; a timer that was set a moment ago stays as it is."""
        now_s = time.monotonic()
        if now_s - self._expected_s > TIMER_SLACK_S:
            self._expected_s = now_s
            within_s = min(limit_s + TIMER_SLACK_S, self._deadline_s - now_s)
            silence.reschedule(asyncio.get_running_loop().time() + within_s)

    async def _offer(self, item: StreamFrame | ProviderFailed | None, *, size: int) -> None:
        """Put an item where the caller finds it; one that is slower than the deadline is given up."""
        left_s = max(self._deadline_s - time.monotonic(), 0.01)
        if not await self._queue.offer(item, size=size, within_s=left_s) and not self._queue.is_closed:
            self._end_delivery(self._failure("the caller read too slowly", "timeout"))

    def _failure(self, message: str, cause: str, *, code: str | None = None) -> ProviderFailed:
        deployment = self.attempt.step.deployment.id
        return ProviderFailed(f"{deployment}: {message}", deployment=deployment, cause=cause, is_billed=None, code=code)
