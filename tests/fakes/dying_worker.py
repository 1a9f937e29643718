"""A worker that dies around a chosen call: what it had committed stands, nothing after it happens."""

from dataclasses import dataclass
from typing import Any


class WorkerDied(BaseException):
    """As far as anybody can tell, the process is gone."""


@dataclass
class Dying:
    """Hands on to a part, and dies around the n-th call of one of its methods."""

    inner: Any
    method: str
    is_before: bool
    left: int = 1

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name != self.method:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            # Others call meanwhile: whose turn it is to die is known before the call, and is one's own.
            self.left -= 1
            is_last = self.left == 0
            if is_last and self.is_before:
                raise WorkerDied
            result = found(*arguments, **named)
            if is_last:
                raise WorkerDied
            return result

        return call
