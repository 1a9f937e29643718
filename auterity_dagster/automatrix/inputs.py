"""What each kind of step takes in its `with`; what decides about people is marked as authority."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from auterity_dagster.automatrix.workflow import Duration, Id, StepKind

_AUTHORITY: dict[str, JsonValue] = {"authority": True}


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


class AiPromptInputs(_Inputs):
    """A prompt's key, the values of its placeholders, and the facts that the reply is checked against."""

    prompt: Annotated[Id, Field(json_schema_extra=_AUTHORITY)]
    values: dict[Id, Text] = {}
    facts: SalesFacts | ServiceFacts
    model: Annotated[str, Field(json_schema_extra=_AUTHORITY)] = "auto"


class DecideInputs(_Inputs):
    """Branches in order, the first that holds wins; `else` if none does."""

    cases: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    otherwise: Annotated[str, Field(alias="else")]
    values: dict[Id, Any] = {}


class ApprovalInputs(_Inputs):
    """Who decides, what they read, what they may change, and what silence means."""

    role: Role
    title: str
    show: dict[str, Any] = {}
    fields: dict[Id, Text] = {}
    expires: Duration
    on_expiry: Literal["reject", "approve"] = "reject"


class SendSmsInputs(_Inputs):
    """A text to a contact of the organization."""

    contact_id: ContactId
    purpose: Literal["inquiry_reply", "service_reminder"]
    body: Annotated[str, Field(min_length=1, max_length=1600)]


class SendEmailInputs(_Inputs):
    """A plain e-mail to a contact of the organization."""

    contact_id: ContactId
    purpose: Literal["inquiry_reply", "service_reminder"]
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


INPUTS: Mapping[StepKind, type[BaseModel]] = {
    StepKind.AI_PROMPT: AiPromptInputs,
    StepKind.DECIDE: DecideInputs,
    StepKind.APPROVAL: ApprovalInputs,
    StepKind.SEND_SMS: SendSmsInputs,
    StepKind.SEND_EMAIL: SendEmailInputs,
    StepKind.ASSIGN_TASK: AssignTaskInputs,
    StepKind.INVENTORY_SEARCH: InventorySearchInputs,
}


def authority_of(model: type[BaseModel]) -> frozenset[str]:
    """Return the inputs that decide whom something reaches, who may decide, or which prompt and model is used."""
    return frozenset(
        one.alias or name for name, one in model.model_fields.items() if one.json_schema_extra == _AUTHORITY
    )
