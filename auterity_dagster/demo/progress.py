"""What the demo tells while it runs: the stage, how far it is, and how long it may still take."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

_QUIET_S = 10.0


@dataclass(slots=True)
class Progress:
    """Tells of one stage; on a terminal in one line that is rewritten, elsewhere a line every ten seconds."""

    console: Console
    position: str
    title: str
    typical_s: float
    later_s: float
    _started: float = field(default_factory=time.monotonic)
    _last_line: float = 0.0
    _status: Status | None = None

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()
        self.tell("starting")
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._status is not None:
            self._status.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._started

    def tell(self, what: str, *, done: float = 0.0) -> None:
        """Say what is going on; `done` (0 to 1) sharpens the estimate of what is left."""
        left_s = self.elapsed_s / done - self.elapsed_s if done > 0.05 else max(self.typical_s - self.elapsed_s, 0.0)
        line = (
            f"{self.position} {self.title}: {what} · {in_minutes(self.elapsed_s)} so far, "
            f"about {in_minutes(left_s + self.later_s)} to the end"
        )
        if self._status is not None:
            self._status.update(Text(line))
        elif time.monotonic() - self._last_line >= _QUIET_S:
            self._last_line = time.monotonic()
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def in_minutes(seconds: float) -> str:
    """Write a duration for people: `40 s`, `3 min`, `12 min 30 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min" if rest < 5 or minutes >= 20 else f"{minutes} min {rest} s"
