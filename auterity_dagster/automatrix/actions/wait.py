"""`wait`: hold nothing until a time has come or an event has; whichever is first decides, once."""

from datetime import datetime

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext, Wait
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import WaitInputs
from auterity_dagster.automatrix.ports import Effect, EffectRecord, WaitElapsed, WaitOpened
from auterity_dagster.automatrix.waiting import local_instant
from auterity_dagster.automatrix.workflow import WAIT_LIMIT
from auterity_dagster.errors import Invalid


class WaitFor:
    """Writes down what it waits for and parks; when it is called again one of both has come."""

    def effect(self, context: StepContext, inputs: WaitInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: WaitInputs, record: EffectRecord | None) -> Outcome:
        if context.arrival is not None:
            return Done(StepSucceeded(context.path, {"outcome": "event", "event": dict(context.arrival.event)}))
        if context.is_expired:
            elapsed = StepSucceeded(context.path, {"outcome": "elapsed", "event": None})
            return Done(elapsed, entries=(WaitElapsed(context.path),))
        try:
            expires_at = _end(context, inputs)
        except Invalid as error:
            return NotDone(StepError("invalid_input", error.message))
        return Wait(expires_at, entries=(WaitOpened(context.path, expires_at, inputs.event, inputs.match),))


def _end(context: StepContext, inputs: WaitInputs) -> datetime:
    deadline_at = context.snapshot.state.deadline_at
    if inputs.duration is not None:
        return context.now + inputs.duration
    if inputs.until is None:
        return deadline_at
    until = local_instant(inputs.until, now=context.now, time_zone=context.snapshot.time_zone)
    if until - context.now > WAIT_LIMIT:
        raise Invalid(f"until {inputs.until} is more than {WAIT_LIMIT.days} days away")
    return until
