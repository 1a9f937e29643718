"""`for_each`: what it goes over, where it stops, and what came of its items. Pure."""

from collections.abc import Mapping
from typing import cast

from auterity_dagster.automatrix.compiled_workflow import CompiledLoop
from auterity_dagster.automatrix.execution import LoopEnded, StepError, StepExpanded
from auterity_dagster.automatrix.next_action import is_item_begun, item_error
from auterity_dagster.automatrix.ports import Snapshot
from auterity_dagster.automatrix.scope import item_result
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.workflow import Step


def listed_items(path: str, loop: CompiledLoop, scope: Mapping[str, object]) -> StepExpanded | StepError:
    """Return the items, or why there are none. Raises `ExpressionFailed`."""
    items = loop.items.evaluate(scope)
    if not isinstance(items, list):
        return StepError("invalid_input", f"items: a list was expected, got {type(items).__name__}")
    found = tuple(cast("list[object]", items))
    if len(found) > loop.max_items:
        return StepError("item_limit", f"{len(found)} items, max_items is {loop.max_items}")
    return StepExpanded(path, found, tuple(loop.body))


def stops_before(snapshot: Snapshot, path: str, scope: Mapping[str, object]) -> LoopEnded | None:
    """Return the end of the loop if `while` is false before this item's first step. Raises `ExpressionFailed`."""
    place = read_path(path)
    if place.loop is None or place.index is None:
        return None
    compiled = snapshot.workflow.steps[place.loop]
    if compiled.loop is None or compiled.loop.condition is None:
        return None
    if is_item_begun(cast("Step", compiled.step), snapshot.state, place.index):
        return None
    return None if compiled.loop.condition.holds(scope) else LoopEnded(place.loop, place.index)


def loop_output(snapshot: Snapshot, path: str, loop: CompiledLoop) -> Mapping[str, object]:
    """Return the items with their outputs, and which failed: one that did leaves the others alone."""
    items = snapshot.state.steps[path].items or ()
    step = cast("Step", snapshot.workflow.steps[path].step)
    failed: list[dict[str, object]] = []
    for index in range(len(items)):
        error = item_error(step, snapshot.state, index)
        if error is not None:
            failed.append({"index": index, "code": error.code, "message": error.message})
    return {"items": [item_result(snapshot, path, loop, index) for index in range(len(items))], "failed": failed}
