"""The reference of step kinds, written from the models that the engine itself uses: `docs/reference/steps.md`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from pydantic import BaseModel

from auterity_dagster.automatrix.inputs import INPUTS, authority_of
from auterity_dagster.automatrix.outputs import OUTPUTS
from auterity_dagster.automatrix.workflow import SENDING, StepKind

Schema = Mapping[str, object]

_ABOUT: Mapping[StepKind, str] = {
    StepKind.AI_PROMPT: "Fills a prompt, asks a model through the gateway and checks the reply against the facts.",
    StepKind.EXTRACT: "Reads fields out of a stranger's text; a value stays only if its quote stands in the text.",
    StepKind.DECIDE: "Takes the first branch whose condition holds.",
    StepKind.APPROVAL: "Asks a person and waits without holding anything.",
    StepKind.SEND_SMS: "Sends one text to one contact, if the rules allow it.",
    StepKind.SEND_EMAIL: "Sends one plain e-mail to one contact, if the rules allow it.",
    StepKind.ASSIGN_TASK: "Gives a person something to do.",
    StepKind.INVENTORY_SEARCH: "Finds what the dealership has that fits the wishes.",
    StepKind.WAIT: "Waits for a time or an event; holds no process.",
    StepKind.EMIT_EVENT: "Tells other workflows that something happened.",
    StepKind.FOR_EACH: (
        "Does its steps for each item: `items` (an expression), `as`, `max_items` and `steps` stand beside `with`, "
        "`while` and `max_concurrency` may."
    ),
    StepKind.SUB_WORKFLOW: "Calls another workflow, and waits for it or not.",
    StepKind.VIN_DECODE: "Says what a VIN stands for, offline.",
    StepKind.RECALL_LOOKUP: "Looks a vehicle up in the organization's dated table of recalls.",
    StepKind.HTTP_REQUEST: "Calls a web service through a named connection.",
    StepKind.CRM_UPDATE: "Writes a lead, activity, appointment or note into the CRM.",
}
_EFFECT: Mapping[StepKind, str] = {
    StepKind.AI_PROMPT: "none; a repeat of an attempt gets the first answer and costs nothing",
    StepKind.EXTRACT: "none; a repeat of an attempt gets the first answer and costs nothing",
    StepKind.DECIDE: "none, pure",
    StepKind.APPROVAL: "none; the first valid decision wins",
    StepKind.SEND_SMS: "a message, at most once for its key",
    StepKind.SEND_EMAIL: "a message, at most once for its key; its Message-ID is the same for every attempt",
    StepKind.ASSIGN_TASK: "a task, written with the step's result",
    StepKind.INVENTORY_SEARCH: "none, reads",
    StepKind.WAIT: "none; one row, one winner",
    StepKind.EMIT_EVENT: "an event, told in the transaction of the step's result",
    StepKind.FOR_EACH: "those of its steps, by their paths such as `wanted[2].stock`",
    StepKind.SUB_WORKFLOW: "an execution, once for the step's path",
    StepKind.VIN_DECODE: "none, pure",
    StepKind.RECALL_LOOKUP: "none, reads",
    StepKind.HTTP_REQUEST: "GET: none. Others once, with `Idempotency-Key`",
    StepKind.CRM_UPDATE: "a record in the CRM, once",
}
_ERRORS: Mapping[StepKind, tuple[str, ...]] = {
    StepKind.AI_PROMPT: ("budget_exceeded", "not_permitted"),
    StepKind.EXTRACT: ("budget_exceeded", "not_permitted", "invalid_output"),
    StepKind.DECIDE: ("expression_failed",),
    StepKind.SEND_SMS: ("unknown_effect", "quiet_hours"),
    StepKind.SEND_EMAIL: ("unknown_effect",),
    StepKind.EMIT_EVENT: ("depth_limit",),
    StepKind.FOR_EACH: ("item_limit", "output_too_large"),
    StepKind.SUB_WORKFLOW: ("child_failed", "depth_limit"),
    StepKind.HTTP_REQUEST: ("blocked_address", "unknown_effect"),
    StepKind.CRM_UPDATE: ("blocked_address", "conflict", "unknown_effect"),
}
_HEAD = """# Steps

Written from the models that the engine uses; a test keeps it current
(`python -m auterity_dagster.automatrix.step_reference > docs/reference/steps.md`).

Every step has `id` and `kind`, and may have `needs`, `when`, `timeout` (PT30S), `retry` (3 attempts, exponential with
full jitter, for `timeout connection rate_limited provider_error overloaded`), `on_error: fail | continue`,
`idempotency_key` and its inputs under `with`. Errors of every kind: `invalid_input timeout cancelled worker_lost`. An
input marked *fixed* comes from the event or a variable and never from another step: what a model wrote decides neither
whom a message reaches nor what is called.
"""


def step_reference() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(_section(kind) for kind in INPUTS)])


def _section(kind: StepKind) -> str:
    needs_key = " It needs an `idempotency_key`." if kind in SENDING else ""
    errors = " ".join(f"`{code}`" for code in _ERRORS.get(kind, ())) or "none of its own"
    return (
        f"## `{kind}`\n\n{_ABOUT[kind]}{needs_key}\n\n"
        f"Effect: {_EFFECT[kind]}. Errors: {errors}.\n\n"
        f"{_table(INPUTS[kind], 'takes', fixed=authority_of(INPUTS[kind]))}\n{_table(OUTPUTS[kind], 'gives')}"
    )


def _table(model: type[BaseModel], title: str, fixed: frozenset[str] = frozenset()) -> str:
    schema = cast("Schema", model.model_json_schema(by_alias=True, mode="validation"))
    required = cast("Sequence[str]", schema.get("required", ()))
    about = " ".join((model.__doc__ or "").split())
    lines = [f"{about}\n", f"| {title} | type | |", "|---|---|---|"]
    for name, one in cast("Mapping[str, Schema]", schema.get("properties", {})).items():
        notes = [*(["*fixed*"] if name in fixed else []), *_notes(one, is_required=name in required)]
        lines.append(f"| `{name}` | {_type(one, schema)} | {', '.join(notes)} |")
    return "\n".join(lines) + "\n"


def _notes(schema: Schema, *, is_required: bool) -> Iterator[str]:
    if "default" in schema and schema["default"] not in (None, {}, (), [], ""):
        yield f"else `{schema['default']}`"
    elif not is_required:
        yield "optional"
    limits = (("minLength", "at least {} characters"), ("maxLength", "at most {} characters"))
    bounds = (("minimum", "from {}"), ("maximum", "to {}"), ("maxItems", "at most {} items"))
    for key, words in (*limits, *bounds):
        if key in schema:
            yield words.format(schema[key])


def _type(schema: Schema, root: Schema) -> str:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _type(cast("Mapping[str, Schema]", root["$defs"])[reference.rpartition("/")[2]], root)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " ".join(f"`{one}`" for one in cast("Sequence[object]", schema["enum"]))
    if "anyOf" in schema:
        kinds = [_type(one, root) for one in cast("Sequence[Schema]", schema["anyOf"])]
        return " or ".join(dict.fromkeys(kinds))
    return _named(schema, root)


def _named(schema: Schema, root: Schema) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {_type(cast('Schema', schema.get('items', {})), root)}"
        case "object":
            inner = cast("Mapping[str, Schema]", schema.get("properties", {}))
            if inner:
                return "{" + ", ".join(f"{name}: {_type(one, root)}" for name, one in inner.items()) + "}"
            values = schema.get("additionalProperties")
            return (
                f"names with {_type(cast('Schema', values), root)}" if isinstance(values, dict) and values else "object"
            )
        case "string":
            return str(schema.get("format", "text"))
        case None:
            return "any JSON"
        case other:
            return str(other)


if __name__ == "__main__":
    print(step_reference(), end="")  # noqa: T201 -- the page, for the file that holds it
