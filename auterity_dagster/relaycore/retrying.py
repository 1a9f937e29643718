"""What follows a failed attempt: the same deployment once more, the next one of the route, or the end."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.route import Route, Step
from auterity_dagster.relaycore.steering_policy import Attempts

BACK_OFF_S = 0.2
MAX_WAIT_S = 1.0
"""A provider that asks for a longer pause is left for another one."""


@dataclass(frozen=True, slots=True)
class Next:
    """The step to try, after a pause."""

    step: Step
    pause_s: float = 0.0


@dataclass(slots=True)
class Plan:
    """A finite plan over a route: every step is tried a limited number of times, and the whole too."""

    route: Route
    limits: Attempts
    jitter: Callable[[], float]
    tries: Counter[str] = field(default_factory=Counter[str])
    _has_moved_on_malformed: bool = False

    @property
    def attempts(self) -> int:
        """How many attempts have begun."""
        return self.tries.total()

    def begin(self, step: Step) -> None:
        """Count an attempt at the step."""
        self.tries[step.deployment.id] += 1

    def cheaper(self, step: Step) -> Step | None:
        """The first untried step that may cost less, for a budget that has no room for this one.

        In place of one that is only tried the choice comes, whatever it costs: another budget pays for it.
        """
        others = (one for one in self._untried() if one.deployment.id != step.deployment.id)
        return next((one for one in others if step.is_explored or one.hold_nusd < step.hold_nusd), None)

    def after(self, step: Step, failure: ProviderFailed, *, remaining_s: float) -> Next | None:
        """Return what to do next, or None: then the failure is the answer."""
        if self.attempts >= self.limits.max or not self._may_move_on(failure):
            return None
        others = self._untried()
        if failure.cause == "rejected" and failure.status != 404:
            wide = step.deployment.capabilities.context_tokens
            others = [one for one in others if one.deployment.capabilities.context_tokens > wide]
        if failure.cause == "malformed":
            if self._has_moved_on_malformed:
                return None
            self._has_moved_on_malformed = True
        pause = self._pause_here(step, failure, has_others=bool(others))
        if pause is not None and pause < remaining_s:
            return Next(step, pause)
        return Next(others[0]) if others and remaining_s > 0 else None

    def _untried(self) -> list[Step]:
        return [one for one in self.route.steps if not self.tries[one.deployment.id]]

    def _may_move_on(self, failure: ProviderFailed) -> bool:
        if failure.cause == "credential":
            return True
        if failure.cause == "rejected":
            return failure.status == 404 or failure.code == "context_length_exceeded"
        return failure.cause in self.route.fallback_on

    def _pause_here(self, step: Step, failure: ProviderFailed, *, has_others: bool) -> float | None:
        """How long to wait before the same deployment is tried again, or None: it is not."""
        if self.tries[step.deployment.id] >= self.limits.per_deployment:
            return None
        if failure.cause == "rate_limit":
            wait = failure.retry_after_s
            return wait if wait is not None and wait <= MAX_WAIT_S and not has_others else None
        is_quick = failure.cause in ("server_error", "overloaded") or (
            failure.cause == "connection" and failure.is_billed is not False
        )
        return BACK_OFF_S * (1 + self.jitter()) if is_quick else None


class RetryBudget:
    """Attempts beyond the first, under way at once in this process: at most a fifth of the first ones, but three."""

    def __init__(self) -> None:
        self.active = 0
        self._retrying = 0

    def take(self) -> bool:
        """Take the right to one more attempt, if there is one left; it is given back when that attempt has ended."""
        if self._retrying >= max(3, (self.active - self._retrying) // 5):
            return False
        self._retrying += 1
        return True

    def give_back(self) -> None:
        """The attempt has ended."""
        self._retrying -= 1
