"""The sandbox's OpenAI wire: reads a chat completion request, writes its JSON answer and its stream."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox.completion import Asked, Completion

DEFAULT_MAX_TOKENS = 512
TOO_LONG = "prompt is too long"


def asked(body: Mapping[str, Any]) -> Asked:
    """Read a request. Raises `Invalid`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("messages is a list that is not empty", field="messages")
    response_format = body.get("response_format") or {}
    return Asked(
        model=str(body.get("model")),
        messages=[(str(one.get("role")), text_of(one.get("content"))) for one in messages],
        max_tokens=int(body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS),
        schema=response_format.get("json_schema", {}).get("schema"),
        is_json_wanted=response_format.get("type") == "json_object",
    )


def text_of(content: object) -> str:
    """Return the text of a message's content, a string or a list of text parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def answer(answer_id: str, model: str, completion: Completion) -> dict[str, Any]:
    """Return the whole answer."""
    message = {"role": "assistant", "content": completion.text, "refusal": None}
    body: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "system_fingerprint": "sandbox",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(completion)}],
    }
    return body | {"usage": _usage(completion.said)} if completion.said else body


def events(answer_id: str, model: str, completion: Completion, *, with_usage: bool) -> Iterator[tuple[str, bool]]:
    """Yield the stream's events; the flag says whether an event carries a token of the answer."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]} | ({"usage": None} if with_usage else {})

    head = {"id": answer_id, "object": "chat.completion.chunk", "created": 0, "model": model}
    yield _event(chunk({"role": "assistant", "content": ""})), False
    for piece in completion.pieces:
        yield _event(chunk({"content": piece})), True
    yield _event(chunk({}, _finish(completion))), False
    for said in (completion.said_first, completion.said):
        if with_usage and said:
            yield _event({**head, "choices": [], "usage": _usage(said)}), False
    yield "data: [DONE]\n\n", False


def error(status: int, message: str) -> dict[str, Any]:
    """Return an error as this wire writes it."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    code = "context_length_exceeded" if message == TOO_LONG else None
    return {"error": {"message": f"sandbox: {message}", "type": kind, "param": None, "code": code}}


def error_event(status: int, message: str) -> str:
    """Return an error in the middle of a stream."""
    return _event(error(status, message))


def _usage(said: tuple[int, float]) -> dict[str, float]:
    prompt, output = said
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _finish(completion: Completion) -> str:
    return "length" if completion.is_cut_short else "stop"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n"
