"""What a model said, without the ids and times around it: two answers that say the same are the same bytes here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson

from auterity_dagster.relaycore.chat import StreamFrame, WireName

Call = tuple[str, object]


def said_in(body: bytes, wire: WireName) -> bytes:
    """Return what a whole answer says: its text, and the tools it calls with what arguments."""
    answer: Mapping[str, Any] = orjson.loads(body)
    if wire == "anthropic":
        blocks = _objects(answer.get("content"))
        text = "".join(one.get("text", "") for one in blocks if one.get("type") == "text")
        calls = [(one["name"], one.get("input")) for one in blocks if one.get("type") == "tool_use"]
        return _written(text, calls)
    choices = _objects(answer.get("choices"))
    if not choices:
        return orjson.dumps(answer.get("data"))
    message = _object(choices[0].get("message"))
    text = (message.get("content") or "") + (message.get("refusal") or "")
    functions = [_object(one.get("function")) for one in _objects(message.get("tool_calls"))]
    return _written(text, [(one.get("name", ""), _arguments(one.get("arguments"))) for one in functions])


def asked_in(body: Mapping[str, object]) -> bytes | None:
    """Return the messages of a request as roles and texts; None where something in them is no text, or tools are lent.

    Anthropic's wire names the system's text beside the messages, and both wires write a text as parts of one.
    """
    if body.get("tools"):
        return None
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    messages: list[dict[str, str]] = []
    for one in (*system, *_objects(body.get("messages"))):
        text, role = _plain(one.get("content")), one.get("role")
        if text is None or not isinstance(role, str):
            return None
        messages.append({"role": role, "content": text})
    return orjson.dumps(messages) if messages else None


def said_by_frames(frames: Iterable[StreamFrame], wire: WireName) -> bytes:
    """Return what a whole stream says, in the same form as `said_in`."""
    text, calls = "", dict[int, list[str]]()
    for frame in frames:
        if frame.is_usage_only or not frame.data:
            continue
        event: Mapping[str, Any] = orjson.loads(frame.data)
        said, parts = _in_anthropic(event) if wire == "anthropic" else _in_openai(event)
        text += said
        for index, name, arguments in parts:
            call = calls.setdefault(index, ["", ""])
            call[0] += name
            call[1] += arguments
    return _written(text, [(name, _arguments(arguments)) for name, arguments in calls.values()])


def _in_openai(event: Mapping[str, Any]) -> tuple[str, list[tuple[int, str, str]]]:
    choices = _objects(event.get("choices"))
    delta = _object(choices[0].get("delta") if choices else None)
    text = (delta.get("content") or "") + (delta.get("refusal") or "")
    calls = _objects(delta.get("tool_calls"))
    parts = [(one.get("index", 0), _object(one.get("function"))) for one in calls]
    return text, [(index, one.get("name") or "", one.get("arguments") or "") for index, one in parts]


def _in_anthropic(event: Mapping[str, Any]) -> tuple[str, list[tuple[int, str, str]]]:
    delta = _object(event.get("delta"))
    block = _object(event.get("content_block"))
    index = event.get("index", 0)
    if block.get("type") == "tool_use":
        return "", [(index, block["name"], "")]
    if delta.get("type") == "input_json_delta":
        return "", [(index, "", delta["partial_json"])]
    return block.get("text", "") + delta.get("text", ""), []


def _plain(content: object) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = _objects(content)
    texts = [one.get("text") if one.get("type") == "text" else None for one in parts]
    return "".join(str(one) for one in texts) if parts and None not in texts else None


def _object(value: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value or {})


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return cast(list[Mapping[str, Any]], value or [])


def _arguments(written: object) -> object:
    """Arguments as data: two providers write the same ones with other white space."""
    if not isinstance(written, str):
        return written
    try:
        return orjson.loads(written) if written else {}
    except orjson.JSONDecodeError:
        return written


def _written(text: str, calls: Sequence[Call]) -> bytes:
    return orjson.dumps({"text": text, "calls": calls}, option=orjson.OPT_SORT_KEYS)
