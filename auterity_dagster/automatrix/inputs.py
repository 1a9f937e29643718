"""What each kind of step takes in its `with`; what decides about people is marked as authority."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from auterity_dagster.automatrix.compliance.rows import Purpose
from auterity_dagster.automatrix.extraction import FieldType
from auterity_dagster.automatrix.workflow import Duration, EventType, Id, StepKind, WaitDuration

_AUTHORITY: dict[str, JsonValue] = {"authority": True}


_SIGN = r"[A-Za-z0-9_~!$'()*,;=:@\-]|%[013-9A-Fa-f][0-9A-Fa-f]|%2[0-9A-Da-d]"
PATH = rf"^(?:/|(?:/(?:{_SIGN})(?:{_SIGN}|\.)*)+/?)$"
"""A path that stays below its base: no empty segment, no `..`, no query and no fragment."""


def _text(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_text)]
Role = Annotated[Literal["owner", "admin", "manager", "staff"], Field(json_schema_extra=_AUTHORITY)]
ContactId = Annotated[UUID, Field(json_schema_extra=_AUTHORITY)]


class _Inputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SalesFacts(_Inputs):
    """What a sales reply may state."""

    stock: tuple[dict[str, Any], ...] = ()
    hours: str | None = None
    appointment_times: tuple[str, ...] = ()


class ServiceFacts(_Inputs):
    """What a service message may state."""

    vehicle: str
    due: str
    times: tuple[str, ...]


class ListedFacts(_Inputs):
    """What any other text may state, one fact a line; no amount of dollars is one of them."""

    lines: Annotated[tuple[str, ...], Field(max_length=40)]


class AiPromptInputs(_Inputs):
    """A prompt's key, the values of its placeholders, and the facts and words that the reply is checked against."""

    prompt: Annotated[Id, Field(json_schema_extra=_AUTHORITY)]
    values: dict[Id, Text] = {}
    facts: SalesFacts | ServiceFacts | ListedFacts
    max_length: Annotated[int, Field(ge=40, le=1600)] = 320
    banned_words: Annotated[tuple[Annotated[str, Field(max_length=60)], ...], Field(max_length=100)] = ()
    model: Annotated[str, Field(json_schema_extra=_AUTHORITY)] = "auto"


class ExtractField(_Inputs):
    """One field to read: its type, what it means, and for a `choice` the only values there are."""

    type: FieldType
    about: Annotated[str, Field(min_length=1, max_length=200)]
    choices: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=60)], ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _a_choice_has_choices(self) -> "ExtractField":
        if (self.type == "choice") != bool(self.choices):
            raise ValueError("`choices` belong to the type `choice`, and it needs them")
        return self


class ExtractInputs(_Inputs):
    """A text that a stranger wrote, and the fields to read out of it."""

    text: Text
    fields: Annotated[dict[Id, ExtractField], Field(min_length=1, max_length=20, json_schema_extra=_AUTHORITY)]
    prompt: Annotated[Id, Field(json_schema_extra=_AUTHORITY)] = "read_fields"
    model: Annotated[str, Field(json_schema_extra=_AUTHORITY)] = "auto"


class DecideInputs(_Inputs):
    """Branches in order, the first that holds wins; `else` if none does."""

    cases: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    otherwise: Annotated[str, Field(alias="else")]
    values: dict[Id, Any] = {}


class ApprovalInputs(_Inputs):
    """Who decides, what they read, what they may change, and what silence means.

    `other_than` names an approval before it: whoever decided that one may not decide this one.
    """

    role: Role
    title: str
    other_than: Annotated[Id | None, Field(json_schema_extra=_AUTHORITY)] = None
    show: dict[str, Any] = {}
    fields: dict[Id, Text] = {}
    expires: Duration
    on_expiry: Literal["reject", "approve"] = "reject"


MessagePurpose = Annotated[Purpose, Field(json_schema_extra=_AUTHORITY)]


class SendSmsInputs(_Inputs):
    """A text to a contact of the organization; what `recall_lookup` matched by decides how it may speak of a recall."""

    contact_id: ContactId
    purpose: MessagePurpose
    recall_match: Literal["vin", "make_model_year", "none"] = "none"
    body: Annotated[str, Field(min_length=1, max_length=1600)]


class SendEmailInputs(_Inputs):
    """A plain e-mail to a contact of the organization."""

    contact_id: ContactId
    purpose: MessagePurpose
    recall_match: Literal["vin", "make_model_year", "none"] = "none"
    subject: Annotated[str, Field(min_length=1, max_length=200)]
    text: Annotated[str, Field(min_length=1, max_length=10_000)]


class AssignTaskInputs(_Inputs):
    """Something for a person of a role."""

    role: Role
    title: Annotated[str, Field(min_length=1, max_length=200)]
    due: Duration


class InventorySearchInputs(_Inputs):
    """Wishes as the lead names them, each with make, vehicle_model, year …"""

    wanted: tuple[dict[str, Any], ...]
    limit: Annotated[int, Field(ge=1, le=20)] = 3


class WaitInputs(_Inputs):
    """How long, or until which local time, or for which event at the longest; `match` are fields of its data."""

    duration: Annotated[WaitDuration | None, Field(alias="for")] = None
    until: Annotated[str, Field(max_length=40)] | None = None
    event: EventType | None = None
    match: Annotated[dict[Id, Annotated[str, Field(max_length=500)] | int | bool], Field(max_length=4)] = {}

    @model_validator(mode="before")
    @classmethod
    def _has_an_end(cls, given: Any) -> Any:
        names = set(cast("dict[str, Any]", given)) if isinstance(given, dict) else set[str]()
        if not names & {"for", "until", "event"}:
            raise PydanticCustomError("wait", "a wait needs `for`, `until` or `event`")
        if {"for", "until"} <= names:
            raise PydanticCustomError("wait", "`for` and `until` exclude each other")
        if "match" in names and "event" not in names:
            raise PydanticCustomError("wait", "`match` belongs to an `event`")
        return cast("object", given)


OWN_EVENTS = frozenset({"lead.received", "schedule.fired", "execution.requested"})
"""What Auterity itself tells of: no workflow may pretend it."""

CUSTOMERS_EVENTS = frozenset({"message.received", "call.missed"})
"""What a customer did: it invites an answer, so no step may pretend it."""


def _foreign(value: str) -> str:
    if value in OWN_EVENTS | CUSTOMERS_EVENTS:
        raise PydanticCustomError("event_type", "{type} comes from outside only", {"type": value})
    return value


class EmitEventInputs(_Inputs):
    """An event for other workflows. What steps found out goes into `findings`, which decides about nobody."""

    type: Annotated[EventType, AfterValidator(_foreign), Field(json_schema_extra=_AUTHORITY)]
    data: Annotated[dict[Id, JsonValue], Field(json_schema_extra=_AUTHORITY)] = {}
    findings: dict[Id, JsonValue] = {}


class SubWorkflowInputs(_Inputs):
    """Another workflow, which sees `input` as its `event.data` and `findings` as its `event.findings`."""

    workflow: Annotated[Id, Field(json_schema_extra=_AUTHORITY)]
    mode: Literal["await", "detach"] = "await"
    data: Annotated[dict[Id, JsonValue], Field(alias="input", json_schema_extra=_AUTHORITY)] = {}
    findings: dict[Id, JsonValue] = {}


class ForEachInputs(_Inputs):
    """Nothing: what a `for_each` goes over stands beside its `with`."""


class VinDecodeInputs(_Inputs):
    """A VIN as somebody wrote it, and the model year if it is known."""

    vin: Annotated[Text, Field(max_length=64)]
    year: Annotated[int, Field(ge=1900, le=2100)] | None = None


class RecallLookupInputs(_Inputs):
    """A VIN, or make, vehicle model and year; a VIN that is no VIN counts as none."""

    vin: str | None = None
    make: str | None = None
    vehicle_model: str | None = None
    year: Annotated[int, Field(ge=1900, le=2100)] | None = None


ConnectionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$", json_schema_extra=_AUTHORITY)]


class HttpRequestInputs(_Inputs):
    """A call below a connection's base URL; with no `expect` every 2xx is what was expected."""

    connection: ConnectionName
    method: Annotated[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], Field(json_schema_extra=_AUTHORITY)] = "GET"
    path: Annotated[str, Field(pattern=PATH, max_length=500, json_schema_extra=_AUTHORITY)]
    query: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-\[\]]{1,60}$")], Text] = {}
    body: Annotated[JsonValue, Field(alias="json")] = None
    expect: tuple[Annotated[int, Field(ge=200, le=599)], ...] = ()


class CrmUpdateInputs(_Inputs):
    """What to write into a CRM; `fields` are the CRM's own, or for ADF a lead's."""

    connection: ConnectionName
    operation: Annotated[Literal["lead", "activity", "appointment", "note"], Field(json_schema_extra=_AUTHORITY)]
    fields: Annotated[dict[Id, JsonValue], Field(min_length=1, max_length=60)]


INPUTS: Mapping[StepKind, type[BaseModel]] = {
    StepKind.AI_PROMPT: AiPromptInputs,
    StepKind.EXTRACT: ExtractInputs,
    StepKind.DECIDE: DecideInputs,
    StepKind.APPROVAL: ApprovalInputs,
    StepKind.SEND_SMS: SendSmsInputs,
    StepKind.SEND_EMAIL: SendEmailInputs,
    StepKind.ASSIGN_TASK: AssignTaskInputs,
    StepKind.INVENTORY_SEARCH: InventorySearchInputs,
    StepKind.WAIT: WaitInputs,
    StepKind.EMIT_EVENT: EmitEventInputs,
    StepKind.FOR_EACH: ForEachInputs,
    StepKind.SUB_WORKFLOW: SubWorkflowInputs,
    StepKind.VIN_DECODE: VinDecodeInputs,
    StepKind.RECALL_LOOKUP: RecallLookupInputs,
    StepKind.HTTP_REQUEST: HttpRequestInputs,
    StepKind.CRM_UPDATE: CrmUpdateInputs,
}


def authority_of(model: type[BaseModel]) -> frozenset[str]:
    """Return the inputs that decide whom something reaches, who may decide, or which prompt and model is used."""
    return frozenset(
        one.alias or name for name, one in model.model_fields.items() if one.json_schema_extra == _AUTHORITY
    )
