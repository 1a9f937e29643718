"""How long to wait before a process that ended is started again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits up to a limit; a process that stayed up long enough starts again from the shortest."""

    first_s: float = 0.5
    limit_s: float = 30.0
    forgiven_after_s: float = 60.0

    def failures_after(self, failures: int, *, healthy_s: float) -> int:
        """Count one more failure, or begin to count anew when the process was healthy for long."""
        return 1 if healthy_s >= self.forgiven_after_s else failures + 1

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 = the first)."""
        return min(self.limit_s, self.first_s * 2.0 ** min(failures - 1, 30))
