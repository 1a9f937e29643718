"""How many calls to one outside system may be second ones: a system that is down is not kept down by our retries."""

from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from auterity_dagster.automatrix.inputs import (
    AiPromptInputs,
    CrmUpdateInputs,
    ExtractInputs,
    HttpRequestInputs,
    SendEmailInputs,
    SendSmsInputs,
)

WINDOW = timedelta(minutes=1)
SHARE = 10
"""One retry for so many calls of the last minute."""
ALWAYS = 10
"""So many a minute are free: where little is called, a tenth of it would be none."""


def system_of(inputs: object) -> str | None:
    """Return the outside system that a step with these inputs calls; None for one that stays inside."""
    match inputs:
        case HttpRequestInputs() | CrmUpdateInputs():
            return inputs.connection
        case SendSmsInputs():
            return "messenger:sms"
        case SendEmailInputs():
            return "messenger:email"
        case AiPromptInputs() | ExtractInputs():
            return "gateway"
        case _:
            return None


@dataclass(slots=True)
class _Minute:
    calls: deque[datetime] = field(default_factory=deque[datetime])
    retries: deque[datetime] = field(default_factory=deque[datetime])

    def forget(self, before: datetime) -> None:
        for times in (self.calls, self.retries):
            while times and times[0] <= before:
                times.popleft()


class RetryBudget:
    """Counts one process's calls by system, over the last minute; threads may share it."""

    def __init__(self) -> None:
        self._systems: defaultdict[Hashable, _Minute] = defaultdict(_Minute)
        self._lock = Lock()

    def called(self, system: Hashable, now: datetime) -> None:
        """A first call is about to be made."""
        with self._lock:
            self._of(system, now).calls.append(now)

    def take(self, system: Hashable, now: datetime) -> bool:
        """Take the right to a second call, if the last minute leaves one."""
        with self._lock:
            minute = self._of(system, now)
            if len(minute.retries) >= max(ALWAYS, len(minute.calls) // SHARE):
                return False
            minute.retries.append(now)
            return True

    def _of(self, system: Hashable, now: datetime) -> _Minute:
        minute = self._systems[system]
        minute.forget(now - WINDOW)
        return minute
