"""What each kind of step gives: later steps read it as `steps.<id>.output`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from auterity_dagster.automatrix.workflow import StepKind


class _Output(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Checks(_Output):
    """The verdict of a program on what a model wrote; each violation is `code` or `code: what was found`."""

    ok: bool
    violations: tuple[str, ...]


class PromptUsed(_Output):
    """Which prompt was filled."""

    key: str
    number: int


class PromptFilled(PromptUsed):
    """Which prompt was filled, and with what."""

    values: dict[str, str]


class AiPromptOutput(_Output):
    """The draft, and whether it keeps to the facts."""

    reply: str
    checks: Checks
    prompt: PromptFilled


class Quote(_Output):
    """Where a value stands in the text: characters `start` to `end`."""

    start: int
    end: int
    text: str


class ExtractOutput(_Output):
    """Every field, null where the text does not state it, and the words that state it."""

    fields: dict[str, str | int | float | bool | None]
    quotes: dict[str, Quote | None]
    checks: Checks
    prompt: PromptUsed


class DecideOutput(_Output):
    """The branch taken; `case` counts from 1 and is null for `else`. `stop` ends the execution as succeeded."""

    choice: str
    case: int | None
    stop: bool
    values: dict[str, JsonValue]


class ApprovalOutput(_Output):
    """What was decided, and every field as it stands after the edits."""

    decision: Literal["approved", "rejected"]
    final: dict[str, str]
    decided_by: str | None
    is_expired: bool


class SendOutput(_Output):
    """Whether the message left; one that did not says why. `rules` are the rows of compliance that decided."""

    outcome: Literal["sent", "suppressed"]
    reason: str | None
    detail: str | None
    rules: tuple[str, ...]
    message_id: str | None
    channel: Literal["sms", "email"]


class AssignTaskOutput(_Output):
    """The task as it was given."""

    role: str
    title: str
    due_at: str


class InventoryItem(_Output):
    """One vehicle of the feed; the price is the total price in nano-dollars."""

    stock_number: str
    vin: str | None
    year: int | None
    make: str
    vehicle_model: str
    trim: str | None
    condition: Literal["new", "used"] | None
    status: Literal["available", "on hold", "sold", "unlisted"]
    total_price_nusd: int | None


class InventorySearchOutput(_Output):
    """What fits, the best first."""

    items: tuple[InventoryItem, ...]
    as_of: str


class VinDecodeOutput(_Output):
    """What the VIN says; without the form of a VIN everything is null and `suggestion` may name the one meant.

    `error_codes` are vPIC's: `[0]` is clean. `is_check_digit_valid` binds in North America only.
    """

    vin: str | None
    make: str | None
    vehicle_model: str | None
    year: int | None
    trim: str | None
    body: str | None
    is_check_digit_valid: bool
    error_codes: tuple[int, ...]
    suggestion: str | None


class RecallCampaign(_Output):
    """One campaign in the authority's own words."""

    campaign: str
    component: str
    summary: str
    consequence: str
    remedy: str
    reported_on: str | None


class RecallLookupOutput(_Output):
    """The campaigns and how they were found. Unless `match` is `vin`, a text says no more than `sentence`."""

    campaigns: tuple[RecallCampaign, ...]
    match: Literal["vin", "make_model_year", "none"]
    sentence: str
    as_of: str


class HttpRequestOutput(_Output):
    """What the service answered; `json` is null if it was none, or if an earlier call had done it."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    status: int
    document: Annotated[JsonValue, Field(alias="json")]


class CrmUpdateOutput(_Output):
    """What the CRM calls it, where it says so; by ADF it is the message's id."""

    external_id: str | None


class WaitOutput(_Output):
    """What ended the wait: the event as expressions see it, or null where the time was over."""

    outcome: Literal["elapsed", "event"]
    event: dict[str, JsonValue] | None


class EmitEventOutput(_Output):
    """The event that was told."""

    event_id: str


class ForEachItem(_Output):
    """One item, and what its steps came to by their ids."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ForEachFailure(_Output):
    """An item that failed; the others went on."""

    index: int
    code: str
    message: str


class ForEachOutput(_Output):
    """Every item with its outputs, in order, and which failed."""

    items: tuple[ForEachItem, ...]
    failed: tuple[ForEachFailure, ...]


class SubWorkflowOutput(_Output):
    """The execution that was called; with `mode: detach` its state is `queued` and there are no outputs."""

    execution_id: str
    state: str
    outputs: dict[str, JsonValue]


OUTPUTS: Mapping[StepKind, type[BaseModel]] = {
    StepKind.AI_PROMPT: AiPromptOutput,
    StepKind.EXTRACT: ExtractOutput,
    StepKind.DECIDE: DecideOutput,
    StepKind.APPROVAL: ApprovalOutput,
    StepKind.SEND_SMS: SendOutput,
    StepKind.SEND_EMAIL: SendOutput,
    StepKind.ASSIGN_TASK: AssignTaskOutput,
    StepKind.INVENTORY_SEARCH: InventorySearchOutput,
    StepKind.WAIT: WaitOutput,
    StepKind.EMIT_EVENT: EmitEventOutput,
    StepKind.FOR_EACH: ForEachOutput,
    StepKind.SUB_WORKFLOW: SubWorkflowOutput,
    StepKind.VIN_DECODE: VinDecodeOutput,
    StepKind.RECALL_LOOKUP: RecallLookupOutput,
    StepKind.HTTP_REQUEST: HttpRequestOutput,
    StepKind.CRM_UPDATE: CrmUpdateOutput,
}


def written(output: BaseModel) -> dict[str, Any]:
    """Return an output as the journal stores it: plain JSON."""
    return output.model_dump(mode="json")
