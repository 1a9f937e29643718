"""What waits between the reader of a provider and the caller of a stream, bounded by frames, by bytes, and in all."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_FRAMES = 256
MAX_BYTES = 1024 * 1024
MAX_PROCESS_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 32 * 1024
"""What a queue may hold even when all queues together are full: else one slow caller could stop the others."""

ITEM_BYTES = 384
"""What an item takes beside its bytes: a short event is mostly that."""

Item = TypeVar("Item")


@dataclass(slots=True)
class QueuedBytes:
    """How much all queues of this process hold."""

    total: int = 0


class FrameQueue(Generic[Item]):
    """First in, first out, from one task to one other. Who offers into a full queue waits, and so stops reading."""

    def __init__(self, queued: QueuedBytes) -> None:
        self._queued = queued
        self._items: deque[tuple[Item, int]] = deque()
        self._size = 0
        self.is_closed = False
        self._changed: asyncio.Future[None] | None = None

    async def offer(self, item: Item, *, size: int, within_s: float) -> bool:
        """Put an item; False when the queue was closed, or had no room in that time."""
        if self._is_full():
            try:
                async with asyncio.timeout(within_s):
                    while self._is_full():
                        await self._change()
            except TimeoutError:
                return False
        if self.is_closed:
            return False
        self._items.append((item, size + ITEM_BYTES))
        self._resize(size + ITEM_BYTES)
        self._wake()
        return True

    @property
    def head(self) -> Item | None:
        """What `get` would return without waiting; None where it would wait."""
        return self._items[0][0] if self._items else None

    @property
    def has_room(self) -> bool:
        """True if an offer would not wait."""
        return not self._is_full()

    async def get(self, *, within_s: float | None) -> Item:
        """Take the oldest item. Raises `TimeoutError`."""
        if not self._items:
            async with asyncio.timeout(within_s):
                while not self._items:
                    await self._change()
        item, size = self._items.popleft()
        self._resize(-size)
        if self._changed is not None:
            self._wake()
        return item

    def close(self, last: Item | None = None) -> None:
        """Drop what waits and take nothing more; `last` is still delivered."""
        self.is_closed = True
        self._items.clear()
        self._resize(-self._size)
        if last is not None:
            self._items.append((last, 0))
        self._wake()

    def _is_full(self) -> bool:
        return not self.is_closed and (
            len(self._items) >= MAX_FRAMES
            or self._size >= MAX_BYTES
            or (self._size >= SMALL_BYTES and self._queued.total >= MAX_PROCESS_BYTES)
        )

    def _resize(self, change: int) -> None:
        self._size += change
        self._queued.total += change

    async def _change(self) -> None:
        """Wait until something was put, taken or closed: there is one waiter, for no queue is both empty and full."""
        changed = self._changed = asyncio.get_running_loop().create_future()
        try:
            await changed
        finally:
            # Who was woken may find that the other side, which ran first, waits by now.
            if self._changed is changed:
                self._changed = None

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
