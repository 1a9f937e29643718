"""A definition whose every expression is compiled: what the engine runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from auterity_dagster.automatrix.binding import Binding
from auterity_dagster.automatrix.expression import Expression
from auterity_dagster.automatrix.step_path import read_path
from auterity_dagster.automatrix.workflow import SENDING, BodyStep, WorkflowDefinition


@dataclass(frozen=True, slots=True)
class Case:
    """One branch of a `decide` step."""

    choice: str
    when: Expression
    stop: bool


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """A step with its expressions compiled; `loop` belongs to a `for_each`."""

    step: BodyStep
    when: Expression | None
    idempotency_key: Expression | None
    inputs: Mapping[str, Binding]
    cases: tuple[Case, ...]
    loop: "CompiledLoop | None" = None


@dataclass(frozen=True, slots=True)
class CompiledLoop:
    """What a `for_each` goes over, how an item is called, when it stops, and what is done for each."""

    items: Expression
    max_items: int
    name: str
    condition: Expression | None
    body: Mapping[str, CompiledStep]


@dataclass(frozen=True, slots=True)
class CompiledWorkflow:
    """A definition that may run; `digest` identifies its content, `document` is what is stored."""

    definition: WorkflowDefinition
    document: Mapping[str, Any]
    digest: str
    steps: Mapping[str, CompiledStep]
    filters: Mapping[str, Expression]
    idempotency_key: Expression | None
    outputs: Mapping[str, Binding]
    concurrency_key: Expression | None
    on_failure: Mapping[str, CompiledStep]

    @property
    def order(self) -> tuple[str, ...]:
        """The step ids, each after everything it needs."""
        return tuple(self.steps)

    @property
    def contacts_customers(self) -> bool:
        """True if any of its steps sends something to a customer."""
        return any(one.step.kind in SENDING for one in self.every())

    def at(self, path: str) -> CompiledStep:
        """Return the step at a path, also one inside a `for_each`."""
        found = read_path(path)
        if found.loop is None:
            return self.steps[path] if path in self.steps else self.on_failure[path]
        loop = self.steps[found.loop].loop
        assert loop is not None, f"{found.loop} is no for_each"
        return loop.body[found.step_id]

    def every(self) -> Iterator[CompiledStep]:
        """Yield every step, those of a `for_each` after it, those of `on_failure` last."""
        for step in self.steps.values():
            yield step
            if step.loop is not None:
                yield from step.loop.body.values()
        yield from self.on_failure.values()
