"""What every step with an effect outside does the same way: find out what an earlier worker did, and never guess."""

from datetime import timedelta

from auterity_dagster.automatrix.actions.outcome import NotDone, StepContext
from auterity_dagster.automatrix.execution import StepError
from auterity_dagster.automatrix.ports import EffectResolved, EffectState, TaskAssigned

ASK_WITHIN = timedelta(hours=1)


def effect_key(context: StepContext) -> str:
    """Return the step's own key, else its place: it is the same for every attempt."""
    return context.idempotency_key or f"{context.snapshot.claim.execution_id}:{context.path}"


def refused(key: str, error: StepError, *, retry_after_s: float | None = None) -> NotDone:
    """Nothing happened outside: the effect is closed, and a retry may open it again."""
    return NotDone(error, retry_after_s=retry_after_s, entries=(EffectResolved(key, EffectState.FAILED, None, error),))


def unknown(context: StepContext, key: str, why: str, *, question: str) -> NotDone:
    """Never again by itself: a person finds out whether it happened."""
    error = StepError("unknown_effect", why)
    task = TaskAssigned(context.path, "manager", question, context.now + ASK_WITHIN)
    return NotDone(error, entries=(EffectResolved(key, EffectState.UNKNOWN, None, error), task))
