"""Whether what a model said has the form that its wire promises: checked where it is only passed on, too.

Only what carries meaning is looked at: texts, calls of tools, why it ended. All functions raise `TypeError`.
"""

from collections.abc import Mapping
from typing import Any, cast

Json = Mapping[str, Any]


def openai_says(said: Json, *, is_whole: bool) -> bool:
    """Return whether a message, or the part of one that an event adds, says anything."""
    text, refusal, calls = said.get("content"), said.get("refusal"), said.get("tool_calls")
    if not (isinstance(text, str | None) and isinstance(refusal, str | None) and isinstance(calls, list | None)):
        raise TypeError("content, refusal or tool_calls")
    for one in cast(list[object], calls or ()):
        _require_call(one, is_whole=is_whole)
    return bool(text or refusal or calls)


def require_block(block: object) -> None:
    """A block of a whole answer on the Anthropic wire."""
    kind = _require_object(block).get("type")
    found = cast(Json, block)
    wanted: Mapping[str, type] = {"text": {"text": str}, "tool_use": {"id": str, "name": str, "input": dict}}.get(
        _require_text(kind), {}
    )
    _require(found, wanted)


def require_event(kind: str, event: Json) -> None:
    """An event of a stream on the Anthropic wire that carries what the model says."""
    if kind == "content_block_start":
        _require(event, {"index": int})
        _require_text(_require_object(event.get("content_block")).get("type"))
    if kind == "content_block_delta":
        _require(event, {"index": int})
        delta = _require_object(event.get("delta"))
        wanted = {"text_delta": {"text": str}, "input_json_delta": {"partial_json": str}}
        _require(delta, wanted.get(_require_text(delta.get("type")), {}))


def _require_call(one: object, *, is_whole: bool) -> None:
    call = _require_object(one)
    if not is_whole:
        _require(_require_object(call.get("function") or {}), {"name": str | None, "arguments": str | None})
        return
    _require(call, {"id": str})
    if call.get("type") != "custom":
        _require(_require_object(call.get("function")), {"name": str, "arguments": str})


def _require(found: Json, wanted: Mapping[str, Any]) -> None:
    for name, kind in wanted.items():
        if not isinstance(found.get(name), kind):
            raise TypeError(name)


def _require_object(value: object) -> Json:
    if not isinstance(value, dict):
        raise TypeError("no object")
    return cast(Json, value)


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
