"""What an expression of a step can see: the execution's own names, the steps, and an item's where it stands in one."""

from collections.abc import Mapping
from typing import cast
from uuid import UUID

from auterity_dagster.automatrix.binding import Binding, fill
from auterity_dagster.automatrix.compiled_workflow import CompiledLoop
from auterity_dagster.automatrix.definition_check import PREVIOUS
from auterity_dagster.automatrix.execution import StepError, StepState, StepStatus
from auterity_dagster.automatrix.expression import ExpressionFailed
from auterity_dagster.automatrix.ports import Snapshot
from auterity_dagster.automatrix.step_path import item_path, read_path

_RANDOM_BITS = 2**48 - 1


def scope_of(snapshot: Snapshot, path: str) -> Mapping[str, object]:
    """Return the names that the expressions of the step at this path begin with."""
    place = read_path(path)
    known = {**snapshot.workflow.steps, **snapshot.workflow.on_failure}
    steps = {one: _seen(snapshot.state.steps[one]) for one in known if one in snapshot.state.steps}
    around = {**snapshot.scope, "steps": steps, "execution": _execution(snapshot)}
    if place.loop is None or place.index is None:
        return around
    loop = snapshot.workflow.steps[place.loop].loop
    assert loop is not None, f"{place.loop} is no for_each"
    own = {one: _seen(snapshot.state.steps[item_path(place.loop, place.index, one)]) for one in loop.body}
    return {
        **around,
        "steps": steps | own,
        loop.name: _items(snapshot, place.loop)[place.index],
        PREVIOUS: None if place.index == 0 else item_result(snapshot, place.loop, loop, place.index - 1),
    }


def item_result(snapshot: Snapshot, path: str, loop: CompiledLoop, index: int) -> Mapping[str, object]:
    """Return an item with the outputs of its steps that succeeded."""
    outputs: dict[str, object] = {}
    for one in loop.body:
        found = snapshot.state.steps[item_path(path, index, one)]
        if found.status is StepStatus.SUCCEEDED:
            outputs[one] = dict(found.output)
    return {"item": _items(snapshot, path)[index], "outputs": outputs}


def sample_of(execution_id: UUID) -> float:
    """Return the execution's place between 0 and 1 for drawing samples: by chance, and the same whenever it is asked.

    The low bits of an id are random, the others have its version in them.
    """
    return (execution_id.int & _RANDOM_BITS) / (_RANDOM_BITS + 1)


def outputs_of(snapshot: Snapshot) -> Mapping[str, object]:
    """Return what the execution gives back; what a step that was skipped would have given is null."""
    scope = {**snapshot.scope, "steps": {one: _seen(snapshot.state.steps[one]) for one in snapshot.workflow.steps}}
    return {name: _or_null(binding, scope) for name, binding in snapshot.workflow.outputs.items()}


def _or_null(binding: Binding, scope: Mapping[str, object]) -> object:
    try:
        return fill(binding, scope)
    except ExpressionFailed:
        return None


def _execution(snapshot: Snapshot) -> Mapping[str, object]:
    """The execution's own facts, and why it is about to fail."""
    known = cast("Mapping[str, object]", snapshot.scope["execution"])
    return {**known, "sample": sample_of(snapshot.root_id), "error": _told(snapshot.state.error)}


def _told(error: StepError | None) -> Mapping[str, str] | None:
    return None if error is None else {"code": error.code, "message": error.message}


def _items(snapshot: Snapshot, path: str) -> tuple[object, ...]:
    return snapshot.state.steps[path].items or ()


def _seen(step: StepState) -> Mapping[str, object]:
    return {
        "status": step.status.value,
        "output": dict(step.output),
        "attempts": step.attempt,
        "error": _told(step.error),
    }
