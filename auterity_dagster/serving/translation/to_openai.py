"""A request for a message as a chat completion request. What cannot be said was kept off this wire when it was read."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Json = Mapping[str, Any]


def chat_request(body: Json) -> dict[str, Any]:
    """Return the request without model and token limit. Raises `KeyError`, `TypeError` or `ValueError` on nonsense."""
    messages: list[dict[str, Any]] = []
    if system := _text(body.get("system"), between="\n\n"):
        messages.append({"role": "system", "content": system})
    for one in body["messages"]:
        messages += _messages(one["role"], one["content"])
    request: dict[str, Any] = {"messages": messages}
    request |= {name: body[name] for name in ("temperature", "top_p") if body.get(name) is not None}
    if stop := body.get("stop_sequences"):
        request["stop"] = stop
    if user := (body.get("metadata") or {}).get("user_id"):
        request["user"] = user
    if tools := body.get("tools"):
        request["tools"] = [_tool(one) for one in tools]
        request |= _tool_choice(body.get("tool_choice") or {"type": "auto"})
    wanted: Json = (body.get("output_config") or {}).get("format") or {}
    if wanted:
        schema = {"name": "answer", "schema": wanted["schema"], "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request


def _messages(role: str, content: str | Sequence[Json]) -> list[dict[str, Any]]:
    """A message's tool results become messages of their own, before what else it says."""
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if role == "assistant":
        return [_assistant(content)]
    results = [
        {"role": "tool", "tool_call_id": block["tool_use_id"], "content": _text(block.get("content"), between="")}
        for block in content
        if block["type"] == "tool_result"
    ]
    parts = [_part(block) for block in content if block["type"] != "tool_result"]
    if not parts:
        return results
    is_one_text = len(parts) == 1 and parts[0]["type"] == "text"
    return [*results, {"role": role, "content": parts[0]["text"] if is_one_text else parts}]


def _assistant(content: Sequence[Json]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _text(content, between="") or None}
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()},
        }
        for block in content
        if block["type"] == "tool_use"
    ]
    return message | ({"tool_calls": calls} if calls else {})


def _part(block: Json) -> dict[str, Any]:
    if block["type"] == "text":
        return {"type": "text", "text": block["text"]}
    source = block["source"]
    is_url = source["type"] == "url"
    url = source["url"] if is_url else f"data:{source['media_type']};base64,{source['data']}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(content: object, *, between: str) -> str:
    if isinstance(content, list):
        return between.join(block["text"] for block in content if block["type"] == "text")
    return content if isinstance(content, str) else ""


def _tool(written: Json) -> dict[str, Any]:
    function = {"name": written["name"], "parameters": written["input_schema"]}
    function |= {name: written[name] for name in ("description", "strict") if written.get(name) is not None}
    return {"type": "function", "function": function}


def _tool_choice(written: Json) -> dict[str, Any]:
    kind = written["type"]
    if kind == "tool":
        choice: dict[str, Any] = {"tool_choice": {"type": "function", "function": {"name": written["name"]}}}
    else:
        choice = {"tool_choice": {"any": "required"}.get(kind, kind)}
    return choice | ({"parallel_tool_calls": False} if written.get("disable_parallel_tool_use") else {})
