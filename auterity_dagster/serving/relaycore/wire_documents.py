"""What the OpenAPI document says of the wires' own endpoints: bodies, answers and errors as the providers define them.

Bodies are checked by the wires' readers, not by these schemas; a test holds both together.
"""

from collections.abc import Mapping
from typing import Any

from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.openapi_document import ErrorShape
from auterity_dagster.serving.relaycore.gateway_request import BODY_LIMIT_BYTES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": _OBJECT}
_TOKENS: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_MODEL: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "description": "A deployment, a pool (`pool/automotive`), an objective (`auto/cheapest_ok`), or `auto`.",
}
_TEMPERATURE: Schema = {"type": "number", "minimum": 0, "maximum": 2}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_QUESTION = "Is the blue CR-V still there?"


def _body(required: list[str], properties: Mapping[str, Schema], example: Mapping[str, Any]) -> Schema:
    schema = {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": dict(properties),
        "examples": [dict(example)],
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _messages(roles: list[str]) -> Schema:
    content = {"anyOf": [_TEXT, {**_OBJECTS, "description": "Texts, images, tool calls and their results."}]}
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"type": "string", "enum": roles}, "content": content},
    }
    return {"type": "array", "minItems": 1, "items": message}


CHAT = _body(
    ["model", "messages"],
    {
        "model": _MODEL,
        "messages": _messages(["system", "developer", "user", "assistant", "tool"]),
        "max_completion_tokens": _TOKENS,
        "max_tokens": _TOKENS,
        "stream": _FLAG,
        "stream_options": {"type": "object", "properties": {"include_usage": _FLAG}},
        "temperature": _TEMPERATURE,
        "top_p": _SHARE,
        "stop": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 4}]},
        "seed": {"type": "integer"},
        "user": _TEXT,
        "response_format": _OBJECT,
        "tools": _OBJECTS,
        "tool_choice": {"anyOf": [_TEXT, _OBJECT]},
        "parallel_tool_calls": _FLAG,
        "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
        "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
        "logit_bias": _OBJECT,
        "logprobs": _FLAG,
        "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
        "n": {"type": "integer", "enum": [1]},
        "reasoning_effort": _TEXT,
        "verbosity": _TEXT,
        "metadata": _OBJECT,
        "safety_identifier": _TEXT,
        "prompt_cache_key": _TEXT,
        "store": _FLAG,
        "service_tier": {"type": "string", "enum": ["default"]},
    },
    {"model": "auto", "messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 200},
)

_PROMPT: Mapping[str, Schema] = {
    "model": _MODEL,
    "messages": _messages(["user", "assistant", "system"]),
    "system": {"anyOf": [_TEXT, _OBJECTS]},
    "tools": _OBJECTS,
    "tool_choice": _OBJECT,
    "thinking": _OBJECT,
    "output_config": _OBJECT,
    "cache_control": _OBJECT,
}
_PROMPT_EXAMPLE = {"model": "auto", "messages": [{"role": "user", "content": _QUESTION}]}
_MESSAGE = _body(
    ["model", "messages", "max_tokens"],
    {
        **_PROMPT,
        "max_tokens": _TOKENS,
        "stream": _FLAG,
        "stop_sequences": {"type": "array", "items": _TEXT},
        "temperature": _SHARE,
        "top_p": _SHARE,
        "top_k": {"type": "integer", "minimum": 0},
        "metadata": _OBJECT,
        "service_tier": _TEXT,
    },
    {**_PROMPT_EXAMPLE, "max_tokens": 200},
)

_RESPONSE = _body(
    ["model", "input"],
    {
        "model": _MODEL,
        "input": {"anyOf": [_TEXT, {**_OBJECTS, "minItems": 1}]},
        "instructions": _TEXT,
        "max_output_tokens": _TOKENS,
        "stream": _FLAG,
        "temperature": _TEMPERATURE,
        "top_p": _SHARE,
        "user": _TEXT,
        "metadata": _OBJECT,
        "reasoning": _OBJECT,
        "text": _OBJECT,
        "tools": _OBJECTS,
        "tool_choice": {"anyOf": [_TEXT, _OBJECT]},
        "parallel_tool_calls": _FLAG,
        "safety_identifier": _TEXT,
        "prompt_cache_key": _TEXT,
        "service_tier": {"type": "string", "enum": ["default"]},
        "store": {"type": "boolean", "enum": [False], "description": "Nothing is stored here."},
    },
    {"model": "auto", "input": _QUESTION, "max_output_tokens": 200},
)

_EMBEDDING = _body(
    ["model", "input"],
    {
        "model": {**_MODEL, "description": "A deployment: vectors of different models cannot be compared."},
        "input": {"anyOf": [{**_TEXT, "minLength": 1}, {"type": "array", "minItems": 1, "items": _TEXT}]},
        "dimensions": {"type": "integer", "minimum": 1},
        "encoding_format": {"type": "string", "enum": ["float", "base64"]},
        "user": _TEXT,
    },
    {"model": "sandbox-embed", "input": ["A blue CR-V", "An oil change"]},
)


def _header(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_HEADERS = [
    _header("x-auterity-task", {**_TEXT, "pattern": "^[a-z][a-z0-9_]{0,62}$"}, "The task: quality is known by task."),
    _header("x-auterity-dealership", {**_TEXT, "format": "uuid"}, "The dealership that this is for, by its id."),
    _header("x-auterity-quality-min", _SHARE, "Never answered by less."),
    _header("x-auterity-max-cost-usd", {**_TEXT, "pattern": "^[0-9]{1,4}[.][0-9]{1,9}$"}, "The most that it may cost."),
    _header("x-auterity-timeout-s", {"type": "number", "minimum": 1, "maximum": 600}, "A deadline tighter than ours."),
    _header("x-auterity-cache", {**_TEXT, "enum": ["off", "refresh"]}, "Leave kept answers alone, or make a new one."),
    _header("x-auterity-data-class", {**_TEXT, "pattern": "^[a-z][a-z0-9_]{0,62}$"}, "`restricted`: nothing is kept."),
    _header("idempotency-key", {**_TEXT, "pattern": "^[A-Za-z0-9_-]{1,64}$"}, "A repeat gets the first answer again."),
]


def _operation(summary: str, body: Schema, *, events: str | None) -> dict[str, Any]:
    content: Schema = {"application/json": {"schema": _OBJECT}}
    if events is not None:
        content["text/event-stream"] = {"schema": {"type": "string", "description": events}}
    return {
        "post": {
            "summary": summary,
            "description": summary,
            "x-authentication": "api_key",
            "x-permission": str(Permission.GATEWAY_CALL),
            "x-body-limit-bytes": BODY_LIMIT_BYTES,
            "x-problems": [400, 402, 404, 409, 422, 429, 502, 504],
            "parameters": _HEADERS,
            "requestBody": body,
            "responses": {"200": {"description": "The answer, as the wire defines it.", "content": content}},
        }
    }


WIRE_PATHS: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": _operation(
        "Answer a chat as OpenAI's wire defines it.", CHAT, events="Chunks, then `[DONE]`."
    ),
    "/v1/responses": _operation(
        "Answer as OpenAI's responses define it; nothing is stored.", _RESPONSE, events="Up to `response.completed`."
    ),
    "/v1/embeddings": _operation("Turn texts into vectors.", _EMBEDDING, events=None),
    "/v1/messages": _operation(
        "Answer as Anthropic's wire defines it.", _MESSAGE, events="Events up to `message_stop`."
    ),
    "/v1/messages/count_tokens": _operation(
        "Count a prompt's tokens; costs nothing.", _body(["model", "messages"], _PROMPT, _PROMPT_EXAMPLE), events=None
    ),
}

EXAMPLES: Mapping[str, Any] = {
    "FeedbackAdd": {"request_id": "7d9f3c1e-0c52-4c0a-9f5e-0f6a3a4f2b11", "kind": "thumb", "score": 1}
}

_ERROR: Schema = {
    "type": "object",
    "required": ["message", "type", "code"],
    "properties": {
        "message": _TEXT,
        "type": _TEXT,
        "code": {**_TEXT, "description": "Stable; `docs/gateway.md` lists them."},
        "param": {"type": ["string", "null"], "description": "The field that is wrong, where one is."},
        "request_id": {"type": ["string", "null"]},
        "details": _OBJECT,
    },
}
OPENAI_ERRORS = ErrorShape(
    "OpenAIError",
    {"type": "object", "required": ["error"], "properties": {"error": _ERROR}},
    "application/json",
    400,
)
ANTHROPIC_ERRORS = ErrorShape(
    "AnthropicError",
    {
        "type": "object",
        "required": ["type", "error"],
        "properties": {"type": {"const": "error"}, "error": _ERROR, "request_id": {"type": ["string", "null"]}},
    },
    "application/json",
    400,
)


def error_shape_of(path: str) -> ErrorShape:
    """Return how a path's errors are written; the plain routes follow the SDK that asks, OpenAI's if in doubt."""
    return ANTHROPIC_ERRORS if path.startswith("/v1/messages") else OPENAI_ERRORS
