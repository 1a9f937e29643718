"""A stream of chat completion chunks as the events of `POST /v1/responses`, numbered in their order."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from auterity_dagster.serving.relaycore.responses_object import (
    call_item,
    incomplete_reason,
    message_item,
    refusal_part,
    response_object,
    text_part,
    usage_here,
)
from auterity_dagster.serving.relaycore.wire import Asked

Json = Mapping[str, Any]


class ResponseEvents:
    """Writes the events of one stream. One output item is open at a time, as the chunks come in order."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._number = -1
        self._model = asked.request.model
        self._output: list[dict[str, Any]] = []
        self._open: _Message | _Call | None = None
        self._has_begun = False
        self._finish: object = None
        self._usage: Json | None = None

    def take(self, chunk: Json) -> Iterator[bytes]:
        """Yield the events of one chunk, which the provider's client has read already."""
        if not self._has_begun:
            self._has_begun, self._model = True, chunk.get("model", self._model)
            begun = self._response("in_progress")
            yield self._event("response.created", {"response": begun})
            yield self._event("response.in_progress", {"response": begun})
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"][:1]:
            delta: Json = choice.get("delta") or {}
            for kind in ("content", "refusal"):
                if text := delta.get(kind):
                    yield from self._said(kind, text)
            for call in delta.get("tool_calls") or ():
                yield from self._called(call)
            self._finish = choice.get("finish_reason") or self._finish

    def end(self, accounting: Json) -> Iterator[bytes]:
        """Yield what follows the provider's end."""
        yield from self._close()
        reason = incomplete_reason(self._finish)
        status = "incomplete" if reason else "completed"
        whole = self._response(status, reason=reason)
        yield self._event(f"response.{status}", {"response": whole, "x_auterity": accounting})

    def interrupted(self, error: Json) -> bytes:
        """Return the last event of a stream that broke off: no `response.completed` follows."""
        return self._event("error", {"code": error["code"], "message": error["message"], "param": None})

    def _said(self, kind: str, text: str) -> Iterator[bytes]:
        if not (isinstance(self._open, _Message) and self._open.kind == kind):
            yield from self._close()
            self._open = _Message(f"msg_{self._asked.request.id.hex}_{len(self._output)}", kind)
            started = message_item(self._open.id, [], status="in_progress")
            yield self._item_event("response.output_item.added", started)
            yield self._part_event("response.content_part.added", self._open, self._open.part(""))
        self._open.text += text
        fields: dict[str, Any] = {"delta": text} | ({"logprobs": []} if kind == "content" else {})
        yield self._content_event(f"response.{self._open.name}.delta", self._open, fields)

    def _called(self, call: Json) -> Iterator[bytes]:
        place = int(call["index"])
        if not (isinstance(self._open, _Call) and self._open.place == place):
            yield from self._close()
            self._open = _Call(f"fc_{self._asked.request.id.hex}_{len(self._output)}", place, call)
            started = call_item(self._open.id, call, arguments="", status="in_progress")
            yield self._item_event("response.output_item.added", started)
        if arguments := (call.get("function") or {}).get("arguments"):
            self._open.arguments += arguments
            delta = {"item_id": self._open.id, "output_index": len(self._output), "delta": arguments}
            yield self._event("response.function_call_arguments.delta", delta)

    def _close(self) -> Iterator[bytes]:
        one, self._open = self._open, None
        if one is None:
            return
        if isinstance(one, _Message):
            part = one.part(one.text)
            done = {"text": one.text, "logprobs": []} if one.kind == "content" else {"refusal": one.text}
            yield self._content_event(f"response.{one.name}.done", one, done)
            yield self._part_event("response.content_part.done", one, part)
            item = message_item(one.id, [part])
        else:
            done = {"item_id": one.id, "output_index": len(self._output), "arguments": one.arguments}
            yield self._event("response.function_call_arguments.done", done | {"name": one.call["function"]["name"]})
            item = call_item(one.id, one.call, arguments=one.arguments)
        yield self._item_event("response.output_item.done", item)
        self._output.append(item)

    def _response(self, status: str, *, reason: str | None = None) -> dict[str, Any]:
        usage = usage_here(self._usage)
        return response_object(
            self._asked, model=self._model, output=self._output, status=status, usage=usage, reason=reason
        )

    def _item_event(self, kind: str, item: Json) -> bytes:
        return self._event(kind, {"output_index": len(self._output), "item": item})

    def _part_event(self, kind: str, message: "_Message", part: Json) -> bytes:
        return self._content_event(kind, message, {"part": part})

    def _content_event(self, kind: str, message: "_Message", fields: Json) -> bytes:
        place: dict[str, Any] = {"item_id": message.id, "output_index": len(self._output), "content_index": 0}
        return self._event(kind, {**place, **fields})

    def _event(self, kind: str, data: Json) -> bytes:
        self._number += 1
        body = {"type": kind, "sequence_number": self._number, **data}
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"


class _Message:
    """The text or the refusal that is being written."""

    def __init__(self, item_id: str, kind: str) -> None:
        self.id, self.kind, self.text = item_id, kind, ""
        self.name = "output_text" if kind == "content" else "refusal"

    def part(self, text: str) -> dict[str, Any]:
        return text_part(text) if self.kind == "content" else refusal_part(text)


class _Call:
    """The call of a tool that is being written."""

    def __init__(self, item_id: str, place: int, call: Json) -> None:
        self.id, self.place, self.call, self.arguments = item_id, place, call, ""
