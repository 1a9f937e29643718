"""`decide`: take the first branch whose condition holds; pure."""

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.expression import ExpressionFailed
from auterity_dagster.automatrix.inputs import DecideInputs
from auterity_dagster.automatrix.ports import Effect, EffectRecord


class Decide:
    """Evaluates the branches in order, each only if none before it held."""

    def effect(self, context: StepContext, inputs: DecideInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: DecideInputs, record: EffectRecord | None) -> Outcome:
        choice, stop, number = inputs.otherwise, False, None
        for position, case in enumerate(context.compiled.cases, start=1):
            try:
                holds = case.when.holds(context.scope)
            except ExpressionFailed as error:
                return NotDone(StepError("expression_failed", error.message))
            if holds:
                choice, stop, number = case.choice, case.stop, position
                break
        output = {"choice": choice, "case": number, "stop": stop, "values": dict(inputs.values)}
        return Done(StepSucceeded(context.path, output))
