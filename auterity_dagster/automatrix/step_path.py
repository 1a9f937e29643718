"""Where a step stands: `draft` in the workflow, `wanted[2].stock` in the third item of the `for_each` `wanted`."""

import re
from dataclasses import dataclass

_IN_LOOP = re.compile(r"([a-z][a-z0-9_]*)\[(\d+)\]\.([a-z][a-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class StepPath:
    """A path taken apart; `loop` and `index` are None outside a `for_each`."""

    step_id: str
    loop: str | None = None
    index: int | None = None

    @property
    def top(self) -> str:
        """The id of the workflow's own step that it belongs to."""
        return self.loop or self.step_id


def item_path(loop: str, index: int, step_id: str) -> str:
    """Return the path of a step in one item of a `for_each`; items count from 0."""
    return f"{loop}[{index}].{step_id}"


def read_path(path: str) -> StepPath:
    """Take a path apart."""
    found = _IN_LOOP.fullmatch(path)
    return StepPath(path) if found is None else StepPath(found[3], found[1], int(found[2]))
