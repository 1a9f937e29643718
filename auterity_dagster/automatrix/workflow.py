"""A workflow as written: strict, versioned data; it runs no code and describes none."""

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from auterity_dagster.automatrix.duration import parse_duration
from auterity_dagster.errors import Invalid

STEP_LIMIT = 100
"""Steps of a definition, those of its `for_each` bodies too."""

ITEM_LIMIT = 500
WAIT_LIMIT = timedelta(days=400)
DEFAULT_TIMEOUT = timedelta(seconds=30)


class StepKind(StrEnum):
    """What a step can do."""

    AI_PROMPT = "ai_prompt"
    EXTRACT = "extract"
    DECIDE = "decide"
    APPROVAL = "approval"
    SEND_SMS = "send_sms"
    SEND_EMAIL = "send_email"
    ASSIGN_TASK = "assign_task"
    INVENTORY_SEARCH = "inventory_search"
    WAIT = "wait"
    EMIT_EVENT = "emit_event"
    FOR_EACH = "for_each"
    SUB_WORKFLOW = "sub_workflow"
    VIN_DECODE = "vin_decode"
    RECALL_LOOKUP = "recall_lookup"
    HTTP_REQUEST = "http_request"
    CRM_UPDATE = "crm_update"


PARKING = frozenset({StepKind.APPROVAL, StepKind.WAIT, StepKind.SUB_WORKFLOW})
INSIDE = frozenset({StepKind.DECIDE, StepKind.APPROVAL, StepKind.ASSIGN_TASK, StepKind.WAIT, StepKind.EMIT_EVENT})
"""Kinds that reach nothing but the journal: beginning one and its result are one transaction."""

SENDING = frozenset({StepKind.SEND_SMS, StepKind.SEND_EMAIL})


def _duration(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("duration", "an ISO 8601 duration such as 'PT20S' was expected")
    try:
        return parse_duration(value)
    except Invalid as error:
        raise PydanticCustomError("duration", "{reason}", {"reason": error.message}) from error


def _step_kind(value: object) -> object:
    if value not in set(StepKind):
        raise PydanticCustomError(
            "step_kind",
            "there is no step kind '{kind}'; there are {known}",
            {"kind": str(value), "known": ", ".join(StepKind)},
        )
    return StepKind(value)


def _audience(value: object) -> object:
    if value not in set(Audience):
        raise PydanticCustomError(
            "audience",
            "there is no audience '{name}'; there are {known}",
            {"name": str(value), "known": ", ".join(Audience)},
        )
    return Audience(value)


def _bearable(duration: timedelta) -> timedelta:
    if not timedelta(0) < duration <= WAIT_LIMIT:
        raise PydanticCustomError("duration", "more than nothing and at most P{days}D", {"days": WAIT_LIMIT.days})
    return duration


def _no_loop(kind: StepKind) -> StepKind:
    if kind is StepKind.FOR_EACH:
        raise _wrong("a for_each cannot stand inside another one: call a sub_workflow")
    return kind


def _no_parking(kind: StepKind) -> StepKind:
    if kind in PARKING or kind is StepKind.FOR_EACH:
        raise _wrong(f"a {kind} cannot stand here: an execution that fails waits for nothing more")
    return kind


Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
WaitDuration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_bearable)]
EventType = Annotated[str, Field(pattern=r"^[a-z][a-z_]*(\.[a-z_]+)+$", max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Variable(_Strict):
    """A setting of the dealership that expressions read as `vars.name`.

    A `connection` is the name of one, or empty where none is wanted.
    """

    name: Id
    type: Literal["string", "number", "boolean", "role", "strings", "duration", "connection"]
    default: str | int | float | bool | tuple[str, ...]
    scope: Literal["organization", "dealership", "workflow"] = "workflow"
    description: Annotated[str, Field(max_length=300)] = ""

    @model_validator(mode="after")
    def _default_has_the_type(self) -> "Variable":
        check_variable(self, self.default)
        return self


class EventTrigger(_Strict):
    """Starts an execution for each matching event."""

    id: Id
    type: Literal["event"]
    event: EventType
    filter: str | None = None


class Audience(StrEnum):
    """Whom a batch is for: named queries from code."""

    VEHICLES_DUE_FOR_SERVICE = "vehicles_due_for_service"
    VEHICLES_WITH_OPEN_RECALLS = "vehicles_with_open_recalls"
    AGED_INVENTORY = "aged_inventory"


class ScheduleTrigger(_Strict):
    """Starts one execution per subject of an audience, at the dealership's local times.

    `limit` is the most of one night; with `cool_off` a subject of the workflow's last executions is left out so long.
    """

    id: Id
    type: Literal["schedule"]
    cron: str
    audience: Annotated[Audience, BeforeValidator(_audience)]
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    cool_off: WaitDuration | None = None


class CalledTrigger(_Strict):
    """Started by a person over the API, or by a step of another workflow."""

    id: Id
    type: Literal["manual", "sub_workflow"]


class Retry(_Strict):
    """How often a failed step is tried again; waits grow with full jitter."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff: Literal["exponential", "fixed"] = "exponential"
    initial: Duration = timedelta(seconds=1)
    max: Duration = timedelta(seconds=30)
    retry_on: tuple[
        Literal["timeout", "connection", "rate_limited", "provider_error", "overloaded", "invalid_output"], ...
    ] = ("timeout", "connection", "rate_limited", "provider_error", "overloaded")


class BodyStep(_Strict):
    """What every step has; without `needs` it follows the step written before it.

    `pin` is what it gives when the workflow is tried out; an execution does not look at it.
    """

    id: Id
    kind: Annotated[StepKind, BeforeValidator(_step_kind)]
    needs: tuple[Id, ...] | None = None
    when: str | None = None
    timeout: Duration = DEFAULT_TIMEOUT
    retry: Retry = Retry()
    on_error: Literal["fail", "continue"] = "fail"
    idempotency_key: str | None = None
    inputs: Annotated[dict[str, Any], Field(alias="with")] = {}
    pin: dict[str, Any] | None = None


class ItemStep(BodyStep):
    """A step that is done for each item of a `for_each`."""

    kind: Annotated[StepKind, BeforeValidator(_step_kind), AfterValidator(_no_loop)]


class FailureStep(BodyStep):
    """A step that comes before an execution fails; it waits for nobody."""

    kind: Annotated[StepKind, BeforeValidator(_step_kind), AfterValidator(_no_parking)]


class Concurrency(_Strict):
    """How many executions with the same key run at once, over all workflows, and what another one does.

    `queue` waits for its turn, `skip` does not run, `join` hands its event to the one that holds the key, `replace`
    cancels that.
    """

    key: str
    limit: Annotated[int, Field(ge=1, le=100)] = 1
    on_conflict: Literal["queue", "skip", "join", "replace"] = "queue"


class Step(BodyStep):
    """A step of the workflow. `items` to `steps` belong to `for_each`: its steps are done for each item."""

    items: str | None = None
    name: Annotated[Id | None, Field(alias="as")] = None
    max_items: Annotated[int | None, Field(ge=1, le=ITEM_LIMIT)] = None
    max_concurrency: Annotated[int, Field(ge=1, le=ITEM_LIMIT)] = 1
    condition: Annotated[str | None, Field(alias="while")] = None
    steps: Annotated[tuple[ItemStep, ...], Field(max_length=STEP_LIMIT)] = ()

    @model_validator(mode="after")
    def _loops_are_whole(self) -> "Step":
        given = {"items": self.items, "as": self.name, "max_items": self.max_items, "steps": self.steps or None}
        if self.kind is not StepKind.FOR_EACH:
            extra = [name for name, value in {**given, "while": self.condition}.items() if value is not None]
            if extra or self.max_concurrency != 1:
                raise _wrong(f"{', '.join(extra) or 'max_concurrency'}: only a for_each has that, this is {self.kind}")
            return self
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise _wrong(f"a for_each needs {', '.join(missing)}")
        if self.inputs:
            raise _wrong("a for_each takes no `with`: what it goes over stands in `items`")
        if self.condition is not None and self.max_concurrency != 1:
            raise _wrong("`while` looks at the item before, so max_concurrency must be 1")
        return self


class WorkflowDefinition(_Strict):
    """One workflow; `canonical` and `digest` are the same for every way of writing the same content."""

    api_version: Literal["automatrix/v1"]
    key: Id
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=4000)] = ""
    policies: tuple[Literal["ai_disclosure", "price_claims", "no_credit_decision"], ...] = ()
    variables: tuple[Variable, ...] = ()
    triggers: Annotated[
        tuple[Annotated[EventTrigger | ScheduleTrigger | CalledTrigger, Field(discriminator="type")], ...],
        Field(min_length=1),
    ]
    idempotency_key: str | None = None
    timeout: WaitDuration = timedelta(days=3)
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=STEP_LIMIT)]
    concurrency: Concurrency | None = None
    on_failure: Annotated[tuple[FailureStep, ...], Field(max_length=10)] = ()
    outputs: dict[Id, Any] = {}

    @property
    def graph_digest(self) -> str:
        """SHA-256 of ids, kinds, needs and bodies: versions that share it run in the same Dagster job."""
        return _sha256(_graph(self.steps))


def needs_of(steps: Sequence[BodyStep], index: int) -> tuple[str, ...]:
    """Return the ids of the steps that must be over before the step at this position."""
    needs = steps[index].needs
    if needs is not None:
        return needs
    return (steps[index - 1].id,) if index else ()


def check_variable(variable: Variable, value: object) -> None:
    """Raise `ValueError` if a value has not the variable's type."""
    fits = {
        "string": isinstance(value, str),
        "role": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "strings": isinstance(value, list | tuple),
        "duration": isinstance(value, str) and _is_duration(value),
        "connection": isinstance(value, str) and re.fullmatch(r"([a-z][a-z0-9_]{0,62})?", value) is not None,
    }[variable.type]
    if not fits:
        raise ValueError(f"variable {variable.name} is of type {variable.type}, got {value!r}")


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except Invalid:
        return False
    return True


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a document: sorted keys, no blanks, as RFC 8785 for the values we allow."""
    return _sha256(document)


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of a definition, as `config/schemas/workflow.json` holds it."""
    schema = WorkflowDefinition.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _graph(steps: Sequence[BodyStep]) -> list[list[Any]]:
    return [
        [
            step.id,
            step.kind,
            list(needs_of(steps, index)),
            *([_graph(step.steps)] if isinstance(step, Step) and step.steps else []),
        ]
        for index, step in enumerate(steps)
    ]


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("step", "{reason}", {"reason": message})


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
