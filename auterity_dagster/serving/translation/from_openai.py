"""What a deployment on the OpenAI wire says, as callers of the Anthropic wire read it: whole answers and streams."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from auterity_dagster.relaycore.chat import StreamFrame, UsageReport
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.serving.translation.usage import anthropic_usage

Json = Mapping[str, Any]

_STOP = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def message_of(completion: Json, report: UsageReport | None) -> bytes:
    """Return a whole answer on the Anthropic wire. Raises `KeyError`, `TypeError` or `ValueError` on nonsense."""
    choice: Json = completion["choices"][0]
    said: Json = choice["message"]
    content: list[dict[str, Any]] = []
    if text := said.get("content") or said.get("refusal"):
        content.append({"type": "text", "text": text, "citations": None})
    for call in said.get("tool_calls") or []:
        function = call["function"]
        given = orjson.loads(function["arguments"] or "{}")
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    message = _message(completion["id"], completion["model"], content) | {
        "stop_reason": _stop(choice["finish_reason"], has_tools=bool(said.get("tool_calls"))),
        "usage": anthropic_usage(report.usage if report else None),
    }
    return orjson.dumps(message)


class EventTranslation:
    """Turns a stream of chunks into events of the Anthropic wire, one chunk at a time; `end` writes the last ones.

    One content block is open at a time: text until a tool call begins, then a block for each call.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.provider_request_id: str | None = None
        self._block = -1
        self._open: str | int | None = None
        """`text`, or the number of the tool call that is being written."""
        self._has_begun = self._has_tools = False
        self._finish: object = None
        self._usage: Usage | None = None

    def take(self, chunk: Json, report: UsageReport | None) -> Sequence[StreamFrame]:
        """Return the events of one chunk. Raises `KeyError`, `TypeError` or `ValueError` on nonsense."""
        frames: list[StreamFrame] = []
        if not self._has_begun:
            self._has_begun = True
            begun = _message(chunk["id"], self._model, []) | {"usage": anthropic_usage(None)}
            frames.append(_frame("message_start", {"message": begun}))
        if report is not None:
            self._usage = report.usage
            frames.append(
                StreamFrame(b"", report=report, is_usage_only=True, provider_request_id=self.provider_request_id)
            )
        for choice in chunk["choices"][:1]:
            delta: Json = choice.get("delta") or {}
            if text := delta.get("content") or delta.get("refusal"):
                frames += self._opened("text", {"type": "text", "text": ""})
                frames.append(self._delta({"type": "text_delta", "text": text}))
            for call in delta.get("tool_calls") or ():
                frames += self._tool(call)
            self._finish = choice.get("finish_reason") or self._finish
        return frames

    def end(self) -> Sequence[StreamFrame]:
        """Return the events after the provider's end."""
        delta = {"stop_reason": _stop(self._finish, has_tools=self._has_tools), "stop_sequence": None}
        usage = anthropic_usage(self._usage)
        return [
            *self._closed(),
            replace(
                _frame("message_delta", {"delta": delta, "usage": usage}, is_end=True),
                is_cut=self._finish == "length",
            ),
            _frame("message_stop", {}, is_end=True),
        ]

    def _tool(self, call: Json) -> list[StreamFrame]:
        frames: list[StreamFrame] = []
        place, function = int(call["index"]), call.get("function") or {}
        if self._open != place:
            # A call that goes on after another has begun has no counterpart: its id is missing here.
            self._has_tools = True
            block = {"type": "tool_use", "id": call["id"], "name": function["name"], "input": {}}
            frames += self._opened(place, block)
        if arguments := function.get("arguments"):
            frames.append(self._delta({"type": "input_json_delta", "partial_json": arguments}))
        return frames

    def _opened(self, what: str | int, block: Json) -> list[StreamFrame]:
        if self._open == what:
            return []
        frames = self._closed()
        self._open, self._block = what, self._block + 1
        started = {"index": self._block, "content_block": block}
        return [*frames, _frame("content_block_start", started, has_content=block["type"] == "tool_use")]

    def _closed(self) -> list[StreamFrame]:
        if self._open is None:
            return []
        self._open = None
        return [_frame("content_block_stop", {"index": self._block})]

    def _delta(self, delta: Json) -> StreamFrame:
        return _frame("content_block_delta", {"index": self._block, "delta": delta}, has_content=True)


def _message(answer_id: str, model: str, content: Sequence[Json]) -> dict[str, Any]:
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _frame(kind: str, data: Json, *, has_content: bool = False, is_end: bool = False) -> StreamFrame:
    text = orjson.dumps({"type": kind, **data})
    return StreamFrame(text, event=kind.encode(), has_content=has_content, is_end=is_end)


def _stop(finish_reason: object, *, has_tools: bool) -> str:
    """A forced call of a tool ends with `stop` on the OpenAI wire; here a message with a call always says so."""
    stop = _STOP.get(str(finish_reason), "end_turn")
    return "tool_use" if has_tools and stop == "end_turn" else stop
