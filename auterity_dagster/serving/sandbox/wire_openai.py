"""The sandbox's OpenAI wire: reads a chat completion request, writes its JSON answer and its stream."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox.asked import Asked, Message, Tool, image_tokens
from auterity_dagster.serving.sandbox.completion import Block, Completion, Usage

DEFAULT_MAX_TOKENS = 512
TOO_LONG = "prompt is too long"

Json = Mapping[str, Any]


def asked(body: Json) -> Asked:
    """Read a request. Raises `Invalid`. Under a `prompt_cache_key` the system text is read from the cache."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("messages is a list that is not empty", field="messages")
    response_format = body.get("response_format") or {}
    choice = body.get("tool_choice") or "auto"
    stop = body.get("stop") or ()
    return Asked(
        model=str(body.get("model")),
        messages=tuple(_message(one, is_cached=bool(body.get("prompt_cache_key"))) for one in messages),
        max_tokens=int(body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS),
        schema=response_format.get("json_schema", {}).get("schema"),
        is_json_wanted=response_format.get("type") == "json_object",
        tools=tuple(_tool(one["function"]) for one in body.get("tools") or ()),
        tool_choice={"required": "any"}.get(choice, choice) if isinstance(choice, str) else choice["function"]["name"],
        is_parallel=body.get("parallel_tool_calls") is not False,
        thinks=body.get("reasoning_effort") not in (None, "none", "minimal"),
        stops=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def answer(answer_id: str, model: str, completion: Completion) -> dict[str, Any]:
    """Return the whole answer."""
    text = "".join(block.text for block in completion.blocks if block.kind == "text")
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if completion.has_calls:
        calls = [_call(block, block.text) for block in completion.blocks if block.kind == "tool"]
        message |= {"content": None, "tool_calls": calls}
    body: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "system_fingerprint": "sandbox",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(completion)}],
    }
    return body | {"usage": _usage(completion.said)} if completion.said else body


def events(answer_id: str, model: str, completion: Completion, *, with_usage: bool) -> Iterator[tuple[str, int]]:
    """Yield the stream's events, each with how many tokens of the answer it is billed for."""

    def chunk(delta: Json, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]} | ({"usage": None} if with_usage else {})

    head = {"id": answer_id, "object": "chat.completion.chunk", "created": 0, "model": model}
    thought = sum(len(block.pieces) for block in completion.blocks if block.kind == "thinking")
    yield _event(chunk({"role": "assistant", "content": None if completion.has_calls else ""})), thought
    tools = [block for block in completion.blocks if block.kind == "tool"]
    for block in completion.blocks:
        if block.kind == "text":
            for piece in block.pieces:
                yield _event(chunk({"content": piece})), 1
    for place, block in enumerate(tools):
        yield _event(chunk({"tool_calls": [{"index": place, **_call(block, "")}]})), 0
        for piece in block.pieces:
            yield _event(chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})), 1
    yield _event(chunk({}, _finish(completion))), 0
    for said in (completion.said_first, completion.said):
        if with_usage and said:
            yield _event({**head, "choices": [], "usage": _usage(said)}), 0
    yield "data: [DONE]\n\n", 0


def error(status: int, message: str) -> dict[str, Any]:
    """Return an error as this wire writes it."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    code = "context_length_exceeded" if message == TOO_LONG else None
    return {"error": {"message": f"sandbox: {message}", "type": kind, "param": None, "code": code}}


def error_event(status: int, message: str) -> str:
    """Return an error in the middle of a stream."""
    return _event(error(status, message))


def _message(one: Json, *, is_cached: bool) -> Message:
    role, content = str(one.get("role")), one.get("content")
    parts: Sequence[Json] = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    calls = [call["function"] for call in one.get("tool_calls") or ()]
    return Message(
        role=role,
        text="".join(str(part.get("text", "")) for part in parts)
        + "".join(f" {call['name']} {call['arguments']}" for call in calls),
        image_tokens=sum(image_tokens(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"),
        cache="read" if is_cached and role in ("system", "developer") else None,
        is_tool_result=role == "tool",
    )


def _tool(function: Json) -> Tool:
    return Tool(str(function["name"]), function.get("parameters") or {}, str(function.get("description") or ""))


def _call(block: Block, arguments: str) -> dict[str, Any]:
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _usage(said: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": said.prompt,
        "completion_tokens": said.completion,
        "total_tokens": said.prompt + said.completion,
        "prompt_tokens_details": {"cached_tokens": said.cache_read},
        "completion_tokens_details": {"reasoning_tokens": said.reasoning},
    }


def _finish(completion: Completion) -> str:
    if completion.is_cut_short:
        return "length"
    return "tool_calls" if completion.has_calls else "stop"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n"
