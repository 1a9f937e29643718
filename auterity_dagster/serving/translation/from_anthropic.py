"""What a deployment on the Anthropic wire says, as callers of the OpenAI wire read it: whole answers and streams."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from auterity_dagster.relaycore.chat import StreamFrame, UsageReport
from auterity_dagster.serving.translation.usage import openai_usage

Json = Mapping[str, Any]

_FINISH = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def completion_of(message: Json, report: UsageReport | None) -> bytes:
    """Return a whole answer on the OpenAI wire. Raises `KeyError` or `TypeError` for what is no message."""
    content: Sequence[Json] = message["content"]
    text = "".join(block["text"] for block in content if block["type"] == "text")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()},
        }
        for block in content
        if block["type"] == "tool_use"
    ]
    said: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if calls:
        said["tool_calls"] = calls
    answer = {
        "id": message["id"],
        "object": "chat.completion",
        "created": int(time.time()),
        "model": message["model"],
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": _finish(message["stop_reason"])}],
        "usage": openai_usage(report.usage) if report and report.usage else None,
    }
    return orjson.dumps(answer)


class ChunkTranslation:
    """Turns a stream of messages events into chunks of the OpenAI wire, one event at a time."""

    def __init__(self, model: str) -> None:
        self._head: dict[str, Any] = {
            "id": "",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self.provider_request_id: str | None = None
        self._stop_reason: object = None
        self._tools: dict[int, int] = {}

    def take(self, event: Json, report: UsageReport | None) -> Sequence[StreamFrame]:
        """Return the chunks of one event; the last ones are the finish reason and, where there is one, the usage."""
        kind = event["type"]
        if kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        if kind == "message_start":
            self._head["id"] = event["message"]["id"]
            return [self._chunk({"role": "assistant", "content": ""})]
        if kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
            block = event["content_block"]
            place = self._tools[event["index"]] = len(self._tools)
            function = {"name": block["name"], "arguments": ""}
            call = {"index": place, "id": block["id"], "type": "function", "function": function}
            return [self._chunk({"tool_calls": [call]}, has_content=True)]
        if kind == "message_delta":
            self._stop_reason = event["delta"].get("stop_reason")
        if kind == "message_stop":
            return self._end(report)
        return []

    def _delta(self, index: int, delta: Json) -> Sequence[StreamFrame]:
        if delta["type"] == "text_delta":
            return [self._chunk({"content": delta["text"]}, has_content=bool(delta["text"]))]
        if delta["type"] == "input_json_delta":
            call = {"index": self._tools[index], "function": {"arguments": delta["partial_json"]}}
            return [self._chunk({"tool_calls": [call]}, has_content=True)]
        return []

    def _end(self, report: UsageReport | None) -> Sequence[StreamFrame]:
        finish = self._chunk({}, finish=_finish(self._stop_reason))
        if report is None:
            return [finish]
        written = openai_usage(report.usage) if report.usage else None
        data = orjson.dumps({**self._head, "choices": [], "usage": written})
        return [finish, StreamFrame(data, report=report, is_usage_only=True)]

    def _chunk(self, delta: Json, *, has_content: bool = False, finish: str | None = None) -> StreamFrame:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        data = orjson.dumps({**self._head, "choices": [choice]})
        is_end = finish is not None
        return StreamFrame(data, has_content=has_content, is_end=is_end, provider_request_id=self.provider_request_id)


def _finish(stop_reason: object) -> str:
    return _FINISH.get(str(stop_reason), "stop")
