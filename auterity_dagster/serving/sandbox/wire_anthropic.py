"""The sandbox's Anthropic wire: reads a messages request, writes its JSON answer and its stream."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox.completion import Asked, Completion
from auterity_dagster.serving.sandbox.wire_openai import text_of


def asked(body: Mapping[str, Any]) -> Asked:
    """Read a request. Raises `Invalid`; `max_tokens` is required on this wire."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("messages is a list that is not empty", field="messages")
    if not isinstance(body.get("max_tokens"), int):
        raise Invalid("max_tokens is required", field="max_tokens")
    system = [("system", text_of(body["system"]))] if body.get("system") else []
    wanted = (body.get("output_config") or {}).get("format") or {}
    return Asked(
        model=str(body.get("model")),
        messages=[*system, *((str(one.get("role")), text_of(one.get("content"))) for one in messages)],
        max_tokens=int(body["max_tokens"]),
        schema=wanted.get("schema"),
        is_json_wanted=False,
    )


def answer(answer_id: str, model: str, completion: Completion) -> dict[str, Any]:
    """Return the whole answer."""
    content = [{"type": "text", "text": completion.text, "citations": None}] if completion.pieces else []
    return _message(answer_id, model, content) | {
        "stop_reason": _stop(completion),
        "usage": _usage(completion.said) if completion.said else None,
    }


def events(answer_id: str, model: str, completion: Completion, *, with_usage: bool) -> Iterator[tuple[str, bool]]:
    """Yield the stream's events; the flag says whether an event carries a token of the answer."""
    said = completion.said if with_usage else None
    begun = _usage((said[0], 0)) if said else None
    yield _event("message_start", {"message": _message(answer_id, model, []) | {"usage": begun}}), False
    yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}), False
    for piece in completion.pieces:
        yield _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}}), True
    yield _event("content_block_stop", {"index": 0}), False
    delta = {"stop_reason": _stop(completion), "stop_sequence": None}
    if completion.said_first:
        usage = {"output_tokens": completion.said_first[1]}
        yield _event("message_delta", {"delta": {"stop_reason": None, "stop_sequence": None}, "usage": usage}), False
    yield _event("message_delta", {"delta": delta, "usage": {"output_tokens": said[1]} if said else None}), False
    yield _event("message_stop", {}), False


def error(status: int, message: str) -> dict[str, Any]:
    """Return an error as this wire writes it."""
    kinds = {401: "authentication_error", 429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": f"sandbox: {message}"}}


def error_event(status: int, message: str) -> str:
    """Return an error in the middle of a stream."""
    body = error(status, message)
    return f"event: error\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"


def _message(answer_id: str, model: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(said: tuple[int, float]) -> dict[str, Any]:
    return {
        "input_tokens": said[0],
        "output_tokens": said[1],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _stop(completion: Completion) -> str:
    return "max_tokens" if completion.is_cut_short else "end_turn"


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, separators=(',', ':'))}\n\n"
