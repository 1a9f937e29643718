"""From events to executions: which triggers match, and what an execution is given at its start."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.expression import Expression, ExpressionFailed
from auterity_dagster.automatrix.workflow import EventTrigger, WorkflowDefinition, check_variable
from auterity_dagster.errors import Invalid


@dataclass(frozen=True, slots=True)
class Start:
    """What a new execution is given; nothing of it changes later."""

    idempotency_key: str
    event: Mapping[str, Any]
    variables: Mapping[str, Any]
    timeout: timedelta
    concurrency_key: str | None


def matches(workflow: CompiledWorkflow, event: Event) -> bool:
    """True if a trigger of the workflow wants this event; a filter that fails on the data does not want it."""
    scope = {"event": envelope(event)}
    for trigger in workflow.definition.triggers:
        if isinstance(trigger, EventTrigger) and trigger.event == event.type:
            wanted = workflow.filters.get(trigger.id)
            try:
                if wanted is None or wanted.holds(scope):
                    return True
            except ExpressionFailed:
                continue
    return False


def start(workflow: CompiledWorkflow, event: Event, *, settings: Mapping[str, Any], is_called: bool = False) -> Start:
    """Return what an execution for this event is given; without an own key, or called by a step, the event's counts.

    Raises `ExpressionFailed` if the workflow's key cannot be read from this event.
    """
    variables = resolved_variables(workflow.definition, settings)
    scope = {"event": envelope(event), "vars": variables}
    key = event.dedupe_key
    if workflow.idempotency_key is not None and not is_called:
        key = _key_text("idempotency key", workflow.idempotency_key, scope)
    slot_key = concurrency_key(workflow, envelope(event), variables)
    return Start(key, envelope(event), variables, workflow.definition.timeout, slot_key)


def concurrency_key(
    workflow: CompiledWorkflow, event: Mapping[str, object], variables: Mapping[str, object]
) -> str | None:
    """Return the key whose slots an execution shares, None if it shares none. Raises `ExpressionFailed`."""
    if workflow.concurrency_key is None:
        return None
    return _key_text("concurrency key", workflow.concurrency_key, {"event": event, "vars": variables})


def resolved_variables(definition: WorkflowDefinition, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return every variable: what was set, else its default. Raises `Invalid` for unknown ones and wrong types."""
    unknown = sorted(set(settings) - {one.name for one in definition.variables})
    if unknown:
        known = ", ".join(one.name for one in definition.variables) or "none"
        raise Invalid(f"there is no variable {unknown[0]!r}; there are {known}", field=unknown[0])
    resolved: dict[str, Any] = {}
    for one in definition.variables:
        value = settings.get(one.name, one.default)
        try:
            check_variable(one, value)
        except ValueError as error:
            raise Invalid(str(error), field=one.name) from error
        resolved[one.name] = list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else value
    return resolved


def envelope(event: Event) -> Mapping[str, Any]:
    """Return the event as expressions see it, and as the execution keeps it."""
    return {
        "id": str(event.id),
        "type": event.type,
        "subject": event.subject,
        "time": _text(event.time),
        "data": dict(event.data),
        "findings": dict(event.findings),
    }


def _key_text(what: str, expression: Expression, scope: Mapping[str, object]) -> str:
    found = expression.evaluate(scope)
    if not isinstance(found, str) or not 1 <= len(found) <= 300:
        raise ExpressionFailed(f"the {what} is {found!r}, a text of 1-300 characters was expected")
    return found


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
