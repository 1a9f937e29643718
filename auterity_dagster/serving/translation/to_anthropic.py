"""A chat completion request as a request for a message. What cannot be said was kept off this wire when it was read."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Json = Mapping[str, Any]


def messages_request(body: Json) -> dict[str, Any]:
    """Return the request without model and token limit. Raises `KeyError`, `TypeError` or `ValueError` on nonsense.

    System and developer messages become the one system text, in their order, wherever they stood.
    """
    system, messages = _messages(body["messages"])
    request: dict[str, Any] = {"messages": messages}
    if system:
        request["system"] = system
    if stop := body.get("stop"):
        request["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if user := body.get("user"):
        request["metadata"] = {"user_id": user}
    if tools := body.get("tools"):
        request["tools"] = [_tool(one) for one in tools]
        request["tool_choice"] = _tool_choice(body.get("tool_choice"), is_parallel=body.get("parallel_tool_calls"))
    wanted: Json = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        request["output_config"] = {"format": {"type": "json_schema", "schema": wanted["json_schema"]["schema"]}}
    return request


def _messages(written: Sequence[Json]) -> tuple[str, list[dict[str, Any]]]:
    """Split system texts off, and merge neighbours of one role: this wire wants the roles to alternate."""
    system: list[str] = []
    messages: list[dict[str, Any]] = []
    for one in written:
        role = one.get("role")
        if role in ("system", "developer"):
            system.append(_text(one.get("content")))
            continue
        content = _content(one)
        sender = "assistant" if role == "assistant" else "user"
        if messages and messages[-1]["role"] == sender:
            messages[-1]["content"] += content
        else:
            messages.append({"role": sender, "content": content})
    return "\n\n".join(system), messages


def _content(message: Json) -> list[dict[str, Any]]:
    written = message.get("content")
    if message.get("role") == "tool":
        return [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": _text(written)}]
    if isinstance(written, list):
        blocks = [_block(part) for part in written]
    else:
        blocks = [{"type": "text", "text": written}] if written else []
    if refusal := message.get("refusal"):
        blocks.append({"type": "text", "text": refusal})
    for call in message.get("tool_calls") or []:
        function = call["function"]
        given = orjson.loads(function.get("arguments") or "{}")
        blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    return blocks


def _block(part: Json) -> dict[str, Any]:
    if part["type"] != "image_url":
        return {"type": "text", "text": part["text"] if part["type"] == "text" else part["refusal"]}
    url: str = part["image_url"]["url"]
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _tool(written: Json) -> dict[str, Any]:
    function = written["function"]
    tool = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    tool |= {name: function[name] for name in ("description", "strict") if function.get(name) is not None}
    return tool


def _tool_choice(written: object, *, is_parallel: bool | None) -> dict[str, Any]:
    if isinstance(written, Mapping):
        choice: dict[str, Any] = {"type": "tool", "name": written["function"]["name"]}
    else:
        choice = {"type": {"required": "any", "none": "none"}.get(str(written), "auto")}
    if is_parallel is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice
