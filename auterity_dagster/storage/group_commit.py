"""Group commit: what arrives while a batch of an organization is under way travels in the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from uuid import UUID

from auterity_dagster.background import end_tasks

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """Per organization one batch at a time, of at most `limit` items.

    One that is not full waits `linger_s` for company; 0: it leaves at once when none is under way. `flush` deals with
    every error of its own: it must answer each item, however it ends.
    """

    def __init__(
        self, flush: Callable[[UUID, list[Item]], Awaitable[None]], *, limit: int, linger_s: float = 0.0
    ) -> None:
        self._flush = flush
        self._limit = limit
        self._linger_s = linger_s
        self._waiting: dict[UUID, deque[Item]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0

    @property
    def pending(self) -> int:
        """How many items are not answered yet."""
        return self._under_way + sum(map(len, self._waiting.values()))

    def submit(self, organization_id: UUID, item: Item) -> None:
        """Queue an item; returns at once."""
        if organization_id in self._waiting:
            self._waiting[organization_id].append(item)
            return
        self._waiting[organization_id] = deque([item])
        task = asyncio.create_task(self._empty(organization_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def take_waiting(self, organization_id: UUID) -> list[Item]:
        """Take what waits for the next batch: when a batch finds the database away, they need not find out again."""
        waiting = self._waiting.get(organization_id, deque())
        taken = list(waiting)
        waiting.clear()
        return taken

    async def drain(self, *, within_s: float) -> bool:
        """Wait until everything queued is answered; False when that took longer than allowed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        return not self._tasks

    async def stop(self) -> None:
        """End what is under way, answered or not."""
        await end_tasks(self._tasks)

    async def _empty(self, organization_id: UUID) -> None:
        waiting = self._waiting[organization_id]
        try:
            while waiting:
                if self._linger_s and len(waiting) < self._limit:
                    await asyncio.sleep(self._linger_s)
                batch = [waiting.popleft() for _ in range(min(self._limit, len(waiting)))]
                self._under_way += len(batch)
                try:
                    await self._flush(organization_id, batch)
                finally:
                    self._under_way -= len(batch)
        finally:
            del self._waiting[organization_id]
