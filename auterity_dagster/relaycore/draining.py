"""The end of a process: open calls have a while to finish; then each is told so, instead of being cut off."""

import asyncio
from typing import Protocol
from weakref import WeakSet

from auterity_dagster.errors import Unavailable

DRAIN_S = 30.0


class Interruptible(Protocol):
    """Something that is under way and can be ended early, with an answer."""

    def interrupt(self) -> None:
        """End it: its caller is told that this process ends. Called once, also when it is over by itself."""
        ...


class Drain:
    """`begin` once the process must end: new calls are taken and open ones go on for `within_s`, then all are ended."""

    def __init__(self, *, within_s: float = DRAIN_S) -> None:
        self._within_s = within_s
        self._ends_at_s: float | None = None
        self._is_over = False
        self._open: WeakSet[Interruptible] = WeakSet()

    @property
    def is_begun(self) -> bool:
        """True once the process is about to end: it is not ready for new work."""
        return self._ends_at_s is not None

    def watch(self, call: Interruptible) -> None:
        """Interrupt this call if it is still there when the time to finish is over."""
        self._open.add(call)

    def begin(self) -> float:
        """Start the time to finish, unless it runs already; return when it ends, on the loop's clock."""
        loop = asyncio.get_running_loop()
        if self._ends_at_s is None:
            self._ends_at_s = loop.time() + self._within_s
            loop.call_at(self._ends_at_s, self._end)
        return self._ends_at_s

    def require_time_left(self) -> None:
        """Raise `Unavailable(code="draining")` once the time to finish is over."""
        if self._is_over:
            raise Unavailable("The gateway's process is ending; ask again.", code="draining", retry_after_s=1)

    def _end(self) -> None:
        self._is_over = True
        for call in tuple(self._open):
            call.interrupt()
