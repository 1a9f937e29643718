"""What a definition must keep to beside its schema: ids, order, schedules, and that it cannot outgrow its journal."""

from collections.abc import Iterator, Sequence

from auterity_dagster.automatrix.duration import duration_text, parse_duration
from auterity_dagster.automatrix.execution import EXECUTION_ATTEMPTS_LIMIT
from auterity_dagster.automatrix.expression import SCOPE
from auterity_dagster.automatrix.schedule import parse_cron
from auterity_dagster.automatrix.workflow import (
    STEP_LIMIT,
    WAIT_LIMIT,
    BodyStep,
    ScheduleTrigger,
    Step,
    StepKind,
    WorkflowDefinition,
    needs_of,
)
from auterity_dagster.errors import Invalid

PREVIOUS = "previous"
"""How the steps of a `for_each` call the item before."""

# What CEL keeps for itself.
_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)


def problems_of(definition: WorkflowDefinition) -> Iterator[str]:
    """Yield everything wrong with the definition that needs no expression compiled."""
    every: list[BodyStep] = [inner for step in definition.steps for inner in (step, *step.steps)]
    every += definition.on_failure
    for name, ids in (
        ("variables", [one.name for one in definition.variables]),
        ("triggers", [one.id for one in definition.triggers]),
        ("steps", [one.id for one in every]),
    ):
        for twice in sorted({one for one in ids if ids.count(one) > 1}):
            yield f"{name}: {twice!r} stands there twice"
    yield from _order_problems(definition.steps)
    yield from _order_problems(definition.on_failure)
    for step in definition.steps:
        yield from _order_problems(step.steps)
        if step.name in _RESERVED or step.name in (*SCOPE, PREVIOUS):
            yield f"step {step.id}: an item cannot be called {step.name!r}, that word means something else"
    if len(every) > STEP_LIMIT:
        yield f"steps: {len(every)} of them with those of every for_each, {STEP_LIMIT} are allowed"
    attempts = sum(_attempts(step) for step in definition.steps)
    if attempts > EXECUTION_ATTEMPTS_LIMIT:
        yield (
            f"steps: with every for_each at its max_items these are {attempts} attempts without one retry, "
            f"an execution has {EXECUTION_ATTEMPTS_LIMIT}"
        )
    yield from _wait_problems(definition, every)
    yield from _approval_problems(definition)
    yield from _schedule_problems(definition)


def _attempts(step: Step) -> int:
    return 1 + (step.max_items or 0) * len(step.steps)


def _order_problems(steps: Sequence[BodyStep]) -> Iterator[str]:
    seen: set[str] = set()
    every = {step.id for step in steps}
    for index, step in enumerate(steps):
        for need in needs_of(steps, index):
            if need not in every:
                yield f"step {step.id}: needs {need!r}, which is no step"
            elif need not in seen:
                yield f"step {step.id}: needs {need!r}, which does not stand before it"
        seen.add(step.id)


def _wait_problems(definition: WorkflowDefinition, every: Sequence[BodyStep]) -> Iterator[str]:
    for step in every:
        text = step.inputs.get("for") if step.kind is StepKind.WAIT else None
        if isinstance(text, str) and "${{" not in text:
            try:
                waits = parse_duration(text)
            except Invalid:
                continue
            if definition.timeout < waits <= WAIT_LIMIT:
                yield f"step {step.id}: waits {text}, the workflow's own timeout is {duration_text(definition.timeout)}"


def _approval_problems(definition: WorkflowDefinition) -> Iterator[str]:
    for steps in (definition.steps, *(step.steps for step in definition.steps)):
        before: list[str] = []
        for step in steps:
            first = step.inputs.get("other_than") if step.kind is StepKind.APPROVAL else None
            if isinstance(first, str) and first not in before:
                yield f"step {step.id}: other_than: {first!r} is no approval before it"
            if step.kind is StepKind.APPROVAL:
                before.append(step.id)


def _schedule_problems(definition: WorkflowDefinition) -> Iterator[str]:
    for trigger in definition.triggers:
        if isinstance(trigger, ScheduleTrigger):
            try:
                parse_cron(trigger.cron)
            except Invalid as error:
                yield f"trigger {trigger.id}: {error.message}"
