"""A circuit breaker: leaves a failing deployment alone for a while, then lets a few probes decide."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When the breaker opens (either condition), how long it stays open, and how many good probes close it."""

    failures_in_a_row: int
    window_s: float
    min_calls: int
    failure_ratio: float
    slow_call_s: float
    open_s: float
    probes: int


class Breaker:
    """The state of one deployment in one process, on a clock that only moves forward (`time.monotonic`).

    `spread` draws from [-1, 1): replicas that opened together do not come back together.
    """

    def __init__(self, limits: BreakerLimits, *, now: Callable[[], float], spread: Callable[[], float]) -> None:
        self._limits, self._now, self._spread = limits, now, spread
        self._calls: deque[tuple[float, bool]] = deque()
        self._bad = 0
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probes_out = 0
        self._probes_good = 0

    @property
    def is_open(self) -> bool:
        """True while no further call may start: open, or half open with every probe under way."""
        if self._open_until is None:
            return False
        return self._now() < self._open_until or self._probes_out >= self._limits.probes - self._probes_good

    def started(self) -> None:
        """A call begins; while the breaker is half open it is a probe."""
        if self._open_until is not None:
            self._probes_out += 1

    def succeeded(self, *, took_s: float) -> None:
        """The call gave an answer; one slower than the limit counts as a failure of the window."""
        self._in_a_row = 0
        self._note(is_bad=took_s > self._limits.slow_call_s)
        if self._open_until is not None:
            self._probes_out = max(self._probes_out - 1, 0)
            self._probes_good += 1
            if self._probes_good >= self._limits.probes:
                self._close()

    def failed(self) -> None:
        """The call failed by the deployment's fault; a failed probe opens the breaker anew."""
        self._in_a_row += 1
        self._note(is_bad=True)
        if self._open_until is not None or self._in_a_row >= self._limits.failures_in_a_row:
            self._open()

    def ended_without_verdict(self) -> None:
        """The call ended by the caller's fault or by a rate limit: it says nothing about the deployment."""
        self._probes_out = max(self._probes_out - 1, 0)

    def _note(self, *, is_bad: bool) -> None:
        now = self._now()
        self._calls.append((now, is_bad))
        self._bad += is_bad
        while self._calls[0][0] < now - self._limits.window_s:
            self._bad -= self._calls.popleft()[1]
        if (
            is_bad
            and len(self._calls) >= self._limits.min_calls
            and self._bad >= self._limits.failure_ratio * len(self._calls)
        ):
            self._open()

    def _open(self) -> None:
        self._open_until = self._now() + self._limits.open_s * (1 + 0.1 * self._spread())
        self._probes_out = self._probes_good = 0

    def _close(self) -> None:
        self._open_until = None
        self._in_a_row = self._probes_out = self._probes_good = self._bad = 0
        self._calls.clear()
