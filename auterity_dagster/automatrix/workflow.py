"""A workflow as written: strict, versioned data in YAML 1.2 or JSON; it runs no code and describes none."""

import hashlib
import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from auterity_dagster.automatrix.duration import parse_duration
from auterity_dagster.errors import Invalid

DEFINITION_LIMIT_BYTES = 32 * 1024
STEP_LIMIT = 100
DEFAULT_TIMEOUT = timedelta(seconds=30)


class StepKind(StrEnum):
    """What a step can do."""

    AI_PROMPT = "ai_prompt"
    DECIDE = "decide"
    APPROVAL = "approval"
    SEND_SMS = "send_sms"
    SEND_EMAIL = "send_email"
    ASSIGN_TASK = "assign_task"
    INVENTORY_SEARCH = "inventory_search"


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


Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Variable(_Strict):
    """A setting of the dealership that expressions read as `vars.name`."""

    name: Id
    type: Literal["string", "number", "boolean", "role", "strings"]
    default: str | int | float | bool | tuple[str, ...]
    scope: Literal["organization", "dealership", "workflow"] = "workflow"

    @model_validator(mode="after")
    def _default_has_the_type(self) -> "Variable":
        check_variable(self, self.default)
        return self


class EventTrigger(_Strict):
    """Starts an execution for each matching event."""

    id: Id
    type: Literal["event"]
    event: Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z_]+)+$")]
    filter: str | None = None


class ScheduleTrigger(_Strict):
    """Starts one execution per subject of an audience, at the dealership's local times."""

    id: Id
    type: Literal["schedule"]
    cron: str
    audience: Literal["vehicles_due_for_service"]
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000


class Retry(_Strict):
    """How often a failed step is tried again; waits grow with full jitter."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff: Literal["exponential", "fixed"] = "exponential"
    initial: Duration = timedelta(seconds=1)
    max: Duration = timedelta(seconds=30)
    retry_on: tuple[
        Literal["timeout", "connection", "rate_limited", "provider_error", "overloaded", "invalid_output"], ...
    ] = ("timeout", "connection", "rate_limited", "provider_error", "overloaded")


class Step(_Strict):
    """One step; without `needs` it follows the step written before it."""

    id: Id
    kind: Annotated[StepKind, BeforeValidator(_step_kind)]
    needs: tuple[Id, ...] | None = None
    when: str | None = None
    timeout: Duration = DEFAULT_TIMEOUT
    retry: Retry = Retry()
    on_error: Literal["fail", "continue"] = "fail"
    idempotency_key: str | None = None
    inputs: Annotated[dict[str, Any], Field(alias="with")] = {}


class WorkflowDefinition(_Strict):
    """One workflow; `canonical` and `digest` are the same for every way of writing the same content."""

    api_version: Literal["automatrix/v1"]
    key: Id
    name: Annotated[str, Field(min_length=1, max_length=200)]
    policies: tuple[Literal["ai_disclosure", "price_claims", "no_credit_decision"], ...] = ()
    variables: tuple[Variable, ...] = ()
    triggers: Annotated[
        tuple[Annotated[EventTrigger | ScheduleTrigger, Field(discriminator="type")], ...], Field(min_length=1)
    ]
    idempotency_key: str | None = None
    timeout: Duration = timedelta(days=3)
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=STEP_LIMIT)]

    def needs_of(self, index: int) -> tuple[str, ...]:
        """Return the ids of the steps that must be over before the step at this position."""
        needs = self.steps[index].needs
        if needs is not None:
            return needs
        return (self.steps[index - 1].id,) if index else ()

    @property
    def graph_digest(self) -> str:
        """SHA-256 of ids, kinds and needs: versions that share it run in the same Dagster job."""
        graph = [[step.id, step.kind, list(self.needs_of(index))] for index, step in enumerate(self.steps)]
        return _sha256(graph)


def check_variable(variable: Variable, value: object) -> None:
    """Raise `ValueError` if a value has not the variable's type."""
    fits = {
        "string": isinstance(value, str),
        "role": isinstance(value, str),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "strings": isinstance(value, list | tuple),
    }[variable.type]
    if not fits:
        raise ValueError(f"variable {variable.name} is of type {variable.type}, got {value!r}")


def read_document(text: str) -> dict[str, Any]:
    """Read YAML 1.2 (JSON is part of it) into plain data. Raises `Invalid` with the line."""
    if len(text.encode()) > DEFINITION_LIMIT_BYTES:
        raise Invalid(f"a definition may have {DEFINITION_LIMIT_BYTES} bytes", code="definition_too_large")
    try:
        document = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise Invalid(f"not readable as YAML: {error}", code="definition_invalid") from error
    if not isinstance(document, dict):
        raise Invalid("a definition is a mapping with the key `api_version`", code="definition_invalid")
    return document  # pyright: ignore[reportUnknownVariableType]


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a document: sorted keys, no blanks, as RFC 8785 for the values we allow."""
    return _sha256(document)


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of a definition, as `config/schemas/workflow.json` holds it."""
    schema = WorkflowDefinition.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
