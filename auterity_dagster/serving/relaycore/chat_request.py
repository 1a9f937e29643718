"""Read a chat completion request: headers and body become a `ChatRequest`, or one clear refusal."""

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast
from uuid import UUID, uuid4

import orjson

from auterity_dagster.errors import Invalid, NotPermitted
from auterity_dagster.identity.principal import Principal
from auterity_dagster.money import nano_usd
from auterity_dagster.relaycore.chat import (
    MESSAGE_OVERHEAD_TOKENS,
    REQUEST_OVERHEAD_TOKENS,
    TOOLS_OVERHEAD_TOKENS,
    Caller,
    ChatRequest,
)

DEFAULT_PURPOSE = "interactive"
BYTES_PER_TOKEN_ESTIMATE = 4

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ROLES = ("system", "developer", "user", "assistant", "tool")
_FIELDS = frozenset(
    {"messages", "model", "max_tokens", "max_completion_tokens", "stream", "stream_options", "temperature", "top_p"}
    | {"stop", "seed", "user", "response_format", "tools", "tool_choice", "parallel_tool_calls", "presence_penalty"}
    | {"frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "n", "reasoning_effort", "verbosity", "metadata"}
    | {"safety_identifier", "prompt_cache_key", "store", "service_tier"}
)

Body = Mapping[str, Any]


def read_body(raw: bytes) -> Body:
    """Parse a body. Raises `Invalid`, never with a part of what was sent."""
    try:
        body: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid("The body is not JSON.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise Invalid("The body is not a JSON object.", code="invalid_json")
    return cast(Body, body)


def chat_request(body: Body, *, headers: Mapping[str, str], principal: Principal, size_bytes: int) -> ChatRequest:
    """Return what routing looks at. Raises `Invalid` naming the field, or `NotPermitted`.

    Fields that are not known are refused and not passed on: some of them change what a provider bills, or where a
    body goes. `size_bytes` bounds the prompt's tokens: no tokenizer makes more tokens than there are bytes.
    """
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        raise Invalid(f"The field {unknown[0]!r} is not supported.", code="unsupported_parameter", field=unknown[0])
    if body.get("n") not in (None, 1):
        raise Invalid("Only n = 1 is supported.", code="unsupported_parameter", field="n")
    if body.get("service_tier") not in (None, "default"):
        raise Invalid("Only the default service tier has a price.", code="unsupported_parameter", field="service_tier")
    messages = _messages(body.get("messages"))
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise Invalid("tools is a list.", field="tools")
    overhead = MESSAGE_OVERHEAD_TOKENS * len(messages) + REQUEST_OVERHEAD_TOKENS
    caller = _caller(headers, principal)
    return ChatRequest(
        id=uuid4(),
        caller=caller,
        model=_model(body.get("model")),
        task=_name(headers, "x-auterity-task"),
        prompt_tokens_bound=size_bytes + overhead + (TOOLS_OVERHEAD_TOKENS if tools else 0),
        prompt_tokens_estimate=size_bytes // BYTES_PER_TOKEN_ESTIMATE + overhead,
        max_tokens=_max_tokens(body),
        is_stream=_flag(body, "stream"),
        has_tools=bool(tools),
        has_images=any(_has_image(one.get("content")) for one in messages),
        needs_json=_needs_json(body.get("response_format")),
        quality_min=_share(headers),
        max_cost_nusd=nano_usd(dollars) if (dollars := headers.get("x-auterity-max-cost-usd")) else None,
        timeout_s=_seconds(headers),
        subject=_subject(headers, caller),
    )


def wants_usage(body: Body) -> bool:
    """True if the caller of a stream asked for its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(cast(Body, options).get("include_usage"))


def _caller(headers: Mapping[str, str], principal: Principal) -> Caller:
    purposes = principal.purposes or {DEFAULT_PURPOSE}
    purpose = headers.get("x-auterity-purpose") or (next(iter(purposes)) if len(purposes) == 1 else DEFAULT_PURPOSE)
    if purpose not in purposes:
        raise NotPermitted(f"The key may be used for {', '.join(sorted(purposes))} only.", field="x-auterity-purpose")
    return Caller(principal.organization_id, principal.id, _dealership(headers, principal), purpose)


def _dealership(headers: Mapping[str, str], principal: Principal) -> UUID | None:
    bound = principal.dealership_ids
    text = headers.get("x-auterity-dealership")
    if text is None:
        if bound is None:
            return None
        if len(bound) == 1:
            return next(iter(bound))
        raise Invalid("The key is bound to dealerships: name one of them.", field="x-auterity-dealership")
    try:
        dealership_id = UUID(text)
    except ValueError as error:
        raise Invalid("A dealership is named by its id.", field="x-auterity-dealership") from error
    if not principal.may_see(dealership_id):
        raise NotPermitted("There is no such dealership, or the key may not act for it.", field="x-auterity-dealership")
    return dealership_id


def _messages(raw: object) -> list[Body]:
    if not isinstance(raw, list) or not raw:
        raise Invalid("messages is a list that is not empty.", field="messages")
    for index, one in enumerate(cast(list[object], raw)):
        if not isinstance(one, dict) or cast(Body, one).get("role") not in _ROLES:
            raise Invalid(f"A message has one of the roles {', '.join(_ROLES)}.", field=f"messages.{index}.role")
        content = cast(Body, one).get("content")
        if not isinstance(content, str | list | None):
            raise Invalid("A message's content is text, or a list of parts.", field=f"messages.{index}.content")
        for part in cast(list[object], content) if isinstance(content, list) else []:
            if not isinstance(part, dict) or cast(Body, part).get("type") not in ("text", "image_url", "refusal"):
                raise Invalid("Parts are texts or images.", code="unsupported_parameter", field=f"messages.{index}")
    return cast(list[Body], raw)


def _has_image(content: object) -> bool:
    return isinstance(content, list) and any(part.get("type") == "image_url" for part in cast(list[Body], content))


def _model(raw: object) -> str:
    if not isinstance(raw, str) or not 1 <= len(raw) <= 128:
        raise Invalid("model names a deployment, a pool such as pool/automotive, or auto.", field="model")
    return raw


def _max_tokens(body: Body) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
                raise Invalid(f"{name} is a whole number of at least 1.", field=name)
            return value
    return None


def _needs_json(response_format: object) -> bool:
    if response_format is None:
        return False
    if not isinstance(response_format, dict):
        raise Invalid("response_format is an object.", field="response_format")
    return cast(Body, response_format).get("type") in ("json_object", "json_schema")


def _flag(body: Body, name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool | None):
        raise Invalid(f"{name} is true or false.", field=name)
    return bool(value)


def _name(headers: Mapping[str, str], header: str) -> str | None:
    value = headers.get(header)
    if value is not None and not _NAME.fullmatch(value):
        raise Invalid("A task is a name such as lead_reply.", field=header)
    return value


def _share(headers: Mapping[str, str]) -> float | None:
    text = headers.get("x-auterity-quality-min")
    if text is None:
        return None
    value = _decimal(text, "x-auterity-quality-min")
    if not 0 <= value <= 1:
        raise Invalid("A quality lies between 0 and 1.", field="x-auterity-quality-min")
    return float(value)


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("x-auterity-timeout-s")
    if text is None:
        return None
    value = _decimal(text, "x-auterity-timeout-s")
    if value <= 0:
        raise Invalid("A timeout is a number of seconds above 0.", field="x-auterity-timeout-s")
    return float(value)


def _decimal(text: str, header: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise Invalid("This header is a decimal number.", field=header) from error
    if not value.is_finite():
        raise Invalid("This header is a decimal number.", field=header)
    return value


def _subject(headers: Mapping[str, str], caller: Caller) -> str | None:
    text = headers.get("x-auterity-subject")
    return None if text is None else hashlib.sha256(f"{caller.organization_id}|{text}".encode()).hexdigest()
