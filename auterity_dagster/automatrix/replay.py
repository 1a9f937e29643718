"""Doing an execution again from one of its steps: which results are kept, and whether another version may take them."""

from collections.abc import Mapping
from dataclasses import dataclass

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.execution import StepState, StepStatus
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.workflow import needs_of
from auterity_dagster.errors import Conflict, Invalid

KEPT = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """Where the replay begins, and the paths whose results it takes over."""

    start: str
    kept: tuple[str, ...]


def plan_replay(
    first: CompiledWorkflow, then: CompiledWorkflow, steps: Mapping[str, StepState], *, start: str | None
) -> ReplayPlan:
    """Plan a replay of an execution of `first`, that ended with these steps, in the version `then`.

    Without a `start` it is the first step that failed or was cancelled. Everything that needs it is done again too.
    Raises `Invalid` for a step that there is not, and `Conflict` if a step that is kept differs between the versions.
    """
    begin = start or _first_unfinished(first, steps)
    if begin not in then.steps:
        known = ", ".join(then.steps)
        raise Invalid(f"there is no step {begin!r} to begin from; there are {known}", field="from")
    again = _with_dependants(then, begin)
    kept: list[str] = []
    for step_id, step in then.steps.items():
        before = steps.get(step_id)
        is_settled = before is not None and (
            before.status in KEPT or (before.status is StepStatus.FAILED and step.step.on_error == "continue")
        )
        if step_id in again or not is_settled:
            continue
        if first.steps[step_id].step != step.step:
            raise Conflict(
                f"step {step_id} is not the same in both versions: begin from it or from one before",
                code="step_differs",
            )
        kept.append(step_id)
    items = [path for path in steps if read_path(path).loop in kept]
    return ReplayPlan(begin, (*kept, *items))


def _first_unfinished(workflow: CompiledWorkflow, steps: Mapping[str, StepState]) -> str:
    for step_id, step in workflow.steps.items():
        status = steps[step_id].status
        if status not in KEPT and not (status is StepStatus.FAILED and step.step.on_error == "continue"):
            return step_id
    raise Invalid("every step of it is done: say from which one it is to begin", field="from")


def _with_dependants(workflow: CompiledWorkflow, start: str) -> frozenset[str]:
    steps = workflow.definition.steps
    again = {start}
    for index, step in enumerate(steps):
        if again & set(needs_of(steps, index)):
            again.add(step.id)
    return frozenset(again)
