"""`assign_task`: record something that a person has to do."""

from auterity_dagster.automatrix.actions.outcome import Done, Outcome, StepContext
from auterity_dagster.automatrix.execution import StepSucceeded
from auterity_dagster.automatrix.inputs import AssignTaskInputs
from auterity_dagster.automatrix.ports import Effect, EffectRecord, TaskAssigned


class AssignTask:
    """Writes the task with the step's result: both or neither."""

    def effect(self, context: StepContext, inputs: AssignTaskInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: AssignTaskInputs, record: EffectRecord | None) -> Outcome:
        due_at = context.now + inputs.due
        output = {"role": inputs.role, "title": inputs.title, "due_at": due_at.isoformat()}
        task = TaskAssigned(context.path, inputs.role, inputs.title, due_at)
        return Done(StepSucceeded(context.path, output), entries=(task,))
