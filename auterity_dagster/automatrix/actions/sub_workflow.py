"""`sub_workflow`: start another workflow in the version it has now, and wait for its end or go on at once."""

from dataclasses import dataclass
from typing import cast

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext, Wait
from auterity_dagster.automatrix.event import DEPTH_LIMIT
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import SubWorkflowInputs
from auterity_dagster.automatrix.ports import Arrival, ChildCall, Children, Effect, EffectRecord
from auterity_dagster.errors import Conflict, Invalid, NotFound, RateLimited


@dataclass(frozen=True, slots=True)
class SubWorkflow:
    """The child belongs to the step's path: a worker that comes after a dead one finds it and starts no other."""

    children: Children

    def effect(self, context: StepContext, inputs: SubWorkflowInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: SubWorkflowInputs, record: EffectRecord | None) -> Outcome:
        if context.arrival is not None:
            return _ended(context, context.arrival)
        if context.snapshot.depth >= DEPTH_LIMIT:
            return NotDone(StepError("depth_limit", f"{DEPTH_LIMIT} executions stand before this one"))
        call = ChildCall(inputs.workflow, inputs.mode == "await", inputs.data, inputs.findings)
        try:
            child_id = self.children.start(context.snapshot, context.path, call, now=context.now)
        except (NotFound, Invalid) as error:
            return NotDone(StepError("invalid_input", error.message))
        except Conflict as error:
            return NotDone(StepError("child_failed", error.message))
        except RateLimited as error:
            return NotDone(StepError("rate_limited", error.message))
        if call.is_awaited:
            return Wait(None, entries=())
        output: dict[str, object] = {"execution_id": str(child_id), "state": "queued", "outputs": {}}
        return Done(StepSucceeded(context.path, output))


def _ended(context: StepContext, arrival: Arrival) -> Outcome:
    child = arrival.event
    if child["state"] == "succeeded":
        output = {name: child[name] for name in ("execution_id", "state", "outputs")}
        return Done(StepSucceeded(context.path, output))
    error = cast("dict[str, str] | None", child.get("error"))
    reason = f": {error['code']}, {error['message']}" if error else ""
    return NotDone(StepError("child_failed", f"execution {child['execution_id']} {child['state']}{reason}"))
