"""The sandbox's Anthropic wire: reads a messages request, writes its JSON answer and its stream."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox.asked import Asked, Message, Tool, image_tokens
from auterity_dagster.serving.sandbox.bill import RATES
from auterity_dagster.serving.sandbox.completion import Block, Completion, Usage

SIGNATURE = "c2FuZGJveA=="

Json = Mapping[str, Any]


def asked(body: Json) -> Asked:
    """Read a request. Raises `Invalid`; `max_tokens` is required on this wire."""
    if not isinstance(body.get("max_tokens"), int):
        raise Invalid("max_tokens is required", field="max_tokens")
    return asked_prompt(body)


def asked_prompt(body: Json) -> Asked:
    """Read a request that only wants its prompt counted.

    A system text that is marked for the cache is read from it, a message that is marked is written to it.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Invalid("messages is a list that is not empty", field="messages")
    model = str(body.get("model"))
    system = _blocks(body.get("system") or "")
    read = [_message("system", system, cache="read" if _marks(system) else None)] if body.get("system") else []
    choice = body.get("tool_choice") or {"type": "auto"}
    return Asked(
        model=model,
        messages=(*read, *(part for one in messages for part in _messages(one, model))),
        max_tokens=int(body.get("max_tokens") or 0),
        schema=((body.get("output_config") or {}).get("format") or {}).get("schema"),
        tools=tuple(_tool(one) for one in body.get("tools") or ()),
        tool_choice=choice["name"] if choice["type"] == "tool" else choice["type"],
        is_parallel=not choice.get("disable_parallel_tool_use"),
        thinks=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        stops=tuple(body.get("stop_sequences") or ()),
    )


def answer(answer_id: str, model: str, completion: Completion) -> dict[str, Any]:
    """Return the whole answer."""
    content = [_whole_block(block) for block in completion.blocks]
    return _message_object(answer_id, model, content) | {
        "stop_reason": _stop(completion),
        "stop_sequence": completion.stopped_by,
        "usage": _usage(completion.said) if completion.said else None,
    }


def events(answer_id: str, model: str, completion: Completion, *, with_usage: bool) -> Iterator[tuple[str, int]]:
    """Yield the stream's events, each with how many tokens of the answer it is billed for."""
    said = completion.said if with_usage else None
    begun = _usage(said) | {"output_tokens": 0} if said else None
    yield _event("message_start", {"message": _message_object(answer_id, model, []) | {"usage": begun}}), 0
    yield _event("ping", {}), 0
    for index, block in enumerate(completion.blocks):
        yield _event("content_block_start", {"index": index, "content_block": _empty_block(block)}), 0
        for piece in block.pieces:
            yield _event("content_block_delta", {"index": index, "delta": _delta(block, piece)}), 1
        if block.kind == "thinking":
            signed = {"type": "signature_delta", "signature": SIGNATURE}
            yield _event("content_block_delta", {"index": index, "delta": signed}), 0
        yield _event("content_block_stop", {"index": index}), 0
    delta = {"stop_reason": _stop(completion), "stop_sequence": completion.stopped_by}
    if completion.said_first:
        nothing = {"stop_reason": None, "stop_sequence": None}
        yield _event("message_delta", {"delta": nothing, "usage": _output(completion.said_first)}), 0
    yield _event("message_delta", {"delta": delta, "usage": _output(said) if said else None}), 0
    yield _event("message_stop", {}), 0


def error(status: int, message: str) -> dict[str, Any]:
    """Return an error as this wire writes it."""
    kinds = {401: "authentication_error", 429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": f"sandbox: {message}"}}


def error_event(status: int, message: str) -> str:
    """Return an error in the middle of a stream."""
    body = error(status, message)
    return f"event: error\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"


def _blocks(content: object) -> Sequence[Json]:
    return content if isinstance(content, list) else [{"type": "text", "text": str(content or "")}]


def _marks(blocks: Sequence[Json]) -> list[Json]:
    return [block["cache_control"] for block in blocks if block.get("cache_control")]


def _messages(one: Json, model: str) -> Iterator[Message]:
    """The results of tools are messages of their own, as on the other wire."""
    blocks = _blocks(one.get("content"))
    for block in blocks:
        if block["type"] == "tool_result":
            yield Message("tool", _text(_blocks(block.get("content"))), is_tool_result=True)
    said = [block for block in blocks if block["type"] != "tool_result"]
    if said:
        yield _message(str(one.get("role")), said, cache=_written(_marks(said), model))


def _written(marks: Sequence[Json], model: str) -> str | None:
    if not marks:
        return None
    is_long = any(mark.get("ttl") == "1h" for mark in marks) and RATES[model].cache_write_1h is not None
    return "write_1h" if is_long else "write_5m"


def _message(role: str, blocks: Sequence[Json], *, cache: str | None) -> Message:
    sources = [block["source"] for block in blocks if block["type"] == "image"]
    return Message(
        role=role,
        text=_text(blocks),
        image_tokens=sum(image_tokens(one.get("data") or one["url"]) for one in sources),
        cache=cache,
    )


def _text(blocks: Sequence[Json]) -> str:
    return "".join(
        f" {block['name']} {json.dumps(block['input'], ensure_ascii=False)}"
        if block["type"] == "tool_use"
        else str(block.get("text", ""))
        for block in blocks
    )


def _tool(tool: Json) -> Tool:
    return Tool(str(tool["name"]), tool.get("input_schema") or {}, str(tool.get("description") or ""))


def _whole_block(block: Block) -> dict[str, Any]:
    if block.kind == "tool":
        return _empty_block(block) | {"input": _parsed(block.text)}
    if block.kind == "thinking":
        return {"type": "thinking", "thinking": block.text, "signature": SIGNATURE}
    return {"type": "text", "text": block.text, "citations": None}


def _parsed(arguments: str) -> dict[str, Any]:
    """A call that the token limit cut off has no arguments."""
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return {}


def _empty_block(block: Block) -> dict[str, Any]:
    if block.kind == "tool":
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
    if block.kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _delta(block: Block, piece: str) -> dict[str, Any]:
    if block.kind == "tool":
        return {"type": "input_json_delta", "partial_json": piece}
    return {"type": f"{block.kind}_delta", block.kind: piece}


def _message_object(answer_id: str, model: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(said: Usage) -> dict[str, Any]:
    written = said.cache_write_5m + said.cache_write_1h
    return {
        "input_tokens": said.prompt - said.cache_read - written,
        "output_tokens": said.completion,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": said.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": said.cache_write_5m,
            "ephemeral_1h_input_tokens": said.cache_write_1h,
        },
        "output_tokens_details": _details(said),
    }


def _output(said: Usage) -> dict[str, Any]:
    return {"output_tokens": said.completion, "output_tokens_details": _details(said)}


def _details(said: Usage) -> dict[str, int]:
    return {"thinking_tokens": said.reasoning}


def _stop(completion: Completion) -> str:
    if completion.is_cut_short:
        return "max_tokens"
    if completion.has_calls:
        return "tool_use"
    return "stop_sequence" if completion.stopped_by else "end_turn"


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, separators=(',', ':'))}\n\n"
