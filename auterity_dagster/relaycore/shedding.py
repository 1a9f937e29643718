"""Load shedding: so many calls at once, a short wait for the next free place, fair between organizations."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from uuid import UUID

from auterity_dagster.errors import Unavailable

WAIT_S = 0.1
SEEN_S = 10.0
"""An organization counts as present this long after its last call."""

RETRY_AFTER_S = 1
MEAN_WEIGHT = 0.1


class Places:
    """The calls that this process carries at once, as places.

    While several organizations are present, those that have their share leave the last places to the others, and a
    place that becomes free goes to whoever has the fewest: a flood from one of them does not keep the others waiting. A
    call that cannot expect a place within the wait is refused at once.
    """

    def __init__(self, count: int, *, wait_s: float = WAIT_S, now: Callable[[], float] = time.monotonic) -> None:
        self._count, self._wait_s, self._now = count, wait_s, now
        self._kept_free = max(1, count // 8)
        self._taken: Counter[UUID] = Counter()
        self._free = count
        self._seen: dict[UUID, float] = {}
        self._waiting: dict[UUID, deque[asyncio.Future[None]]] = {}
        self._mean_s = 0.0

    @property
    def active(self) -> int:
        """How many calls are under way."""
        return self._count - self._free

    async def take(self, organization_id: UUID) -> None:
        """Take a place, perhaps after a short wait. Raises `Unavailable(code="overloaded")`."""
        self._seen[organization_id] = self._now()
        if not self._waiting and self._may_take(organization_id):
            self._give(organization_id)
            return
        if not self._is_worth_waiting(organization_id):
            raise _overloaded()
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organization_id, deque()).append(place)
        self._hand_out()
        try:
            async with asyncio.timeout(self._wait_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                if isinstance(error, TimeoutError):
                    return  # it came in the very last moment
                self.give_back(organization_id, held_s=0.0)
            else:
                self._stop_waiting(organization_id, place)
            if isinstance(error, TimeoutError):
                raise _overloaded() from error
            raise

    def give_back(self, organization_id: UUID, *, held_s: float) -> None:
        """Free a place that was held for so long."""
        self._mean_s += MEAN_WEIGHT * (held_s - self._mean_s)
        self._free += 1
        self._taken[organization_id] -= 1
        if not self._taken[organization_id]:
            del self._taken[organization_id]
        if self._waiting:
            self._hand_out()

    def _may_take(self, organization_id: UUID) -> bool:
        if self._free > self._kept_free:
            return True
        if not self._free:
            return False
        share = self._share()
        if self._taken[organization_id] < share or len(self._seen) == 1:
            return True
        return self._free + sum(taken for taken in self._taken.values() if taken < share) > self._kept_free

    def _share(self) -> float:
        """How many places each present organization may have when all want them."""
        oldest = self._now() - SEEN_S
        gone = [one for one, at in self._seen.items() if at < oldest and not self._taken[one]]
        for one in gone:
            del self._seen[one]
        return self._count / max(len(self._seen), 1)

    def _is_worth_waiting(self, organization_id: UUID) -> bool:
        ahead = len(self._waiting.get(organization_id, ()))
        if self._taken[organization_id] + ahead >= self._share():
            ahead = sum(map(len, self._waiting.values()))
        return ahead < self._count and (ahead + 1) * self._mean_s / self._count <= self._wait_s

    def _hand_out(self) -> None:
        """Give free places to those who wait, the organization with the fewest first."""
        while self._free:
            candidates = [one for one in self._waiting if self._may_take(one)]
            if not candidates:
                return
            organization_id = min(candidates, key=lambda one: self._taken[one])
            place = self._waiting[organization_id][0]
            self._stop_waiting(organization_id, place)
            if not place.cancelled():  # its caller's time was over a moment ago
                self._give(organization_id)
                place.set_result(None)

    def _stop_waiting(self, organization_id: UUID, place: "asyncio.Future[None]") -> None:
        queue = self._waiting.get(organization_id)
        if queue is None or place not in queue:
            return
        queue.remove(place)
        if not queue:
            del self._waiting[organization_id]

    def _give(self, organization_id: UUID) -> None:
        self._free -= 1
        self._taken[organization_id] += 1


def _overloaded() -> Unavailable:
    return Unavailable(
        "This gateway has more calls than it can carry; nothing was called.",
        code="overloaded",
        retry_after_s=RETRY_AFTER_S,
    )
