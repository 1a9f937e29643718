"""Translate between the OpenAI wire and Anthropic's messages: requests one way, answers and streams the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from anthropic.types import Message, RawMessageStreamEvent

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.chat import UsageReport
from auterity_dagster.relaycore.pricing import Usage

_FINISH = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def messages_request(body: Mapping[str, Any], *, model: str, max_tokens: int) -> dict[str, Any]:
    """Return the SDK's arguments. What has no counterpart was named, or kept off this wire, when the body was read."""
    system, messages = _messages(body["messages"])
    request: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "messages": messages}
    if system:
        request["system"] = system
    if stop := body.get("stop"):
        request["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if user := body.get("user"):
        request["metadata"] = {"user_id": user}
    if tools := body.get("tools"):
        request["tools"] = [_tool(one) for one in tools]
        request["tool_choice"] = _tool_choice(body.get("tool_choice", "auto"))
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        request["output_config"] = {"format": {"type": "json_schema", "schema": wanted["json_schema"]["schema"]}}
    return request


def answer_of(message: Message) -> dict[str, Any]:
    """Return a whole answer on the OpenAI wire."""
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": orjson.dumps(block.input).decode()},
        }
        for block in message.content
        if block.type == "tool_use"
    ]
    said: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if calls:
        said["tool_calls"] = calls
    report = usage_of(message.usage)
    return {
        "id": message.id,
        "object": "chat.completion",
        "created": 0,
        "model": message.model,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": _finish(message.stop_reason)}],
        "usage": _usage_written(report.usage) if report and report.usage else None,
    }


def usage_of(reported: Any, *, prompt: Any = None) -> UsageReport | None:
    """Normalise a usage report: Anthropic leaves cached tokens out of the input, we count them in.

    In a stream the prompt's counts come first (`prompt`) and the output's last; what is absent stays absent.
    """
    if reported is None:
        return None
    first = prompt if prompt is not None else reported
    try:
        read, written = first.cache_read_input_tokens or 0, first.cache_creation_input_tokens or 0
        by_life = getattr(first, "cache_creation", None)
        written_1h = by_life.ephemeral_1h_input_tokens if by_life is not None else 0
        return UsageReport(
            Usage(
                prompt_tokens=first.input_tokens + read + written,
                completion_tokens=int(reported.output_tokens),
                cache_read_tokens=read,
                cache_write_5m_tokens=written - written_1h,
                cache_write_1h_tokens=written_1h,
            )
        )
    except (AttributeError, TypeError, Invalid):
        return UsageReport(None)


@dataclass(frozen=True, slots=True)
class Translated:
    """One chunk of the OpenAI wire."""

    chunk: dict[str, Any]
    has_content: bool = False
    is_end: bool = False
    report: UsageReport | None = None


@dataclass(slots=True)
class StreamTranslation:
    """Turns a stream of messages events into chunks of the OpenAI wire, one event at a time."""

    model: str
    is_finished: bool = False
    _id: str = ""
    _prompt: Any = None
    _output: Any = None
    _stop_reason: str | None = None
    _tools: dict[int, int] = field(default_factory=dict[int, int])

    def take(self, event: RawMessageStreamEvent) -> list[Translated]:
        """Return the chunks of one event; the last ones are the finish reason and the usage."""
        if event.type == "message_start":
            self._id, self._prompt = event.message.id, event.message.usage
            return [Translated(self._chunk({"role": "assistant", "content": ""}))]
        if event.type == "content_block_start" and event.content_block.type == "tool_use":
            self._tools[event.index] = len(self._tools)
            function = {"name": event.content_block.name, "arguments": ""}
            call = {"index": self._tools[event.index], "id": event.content_block.id, "type": "function"}
            return [Translated(self._chunk({"tool_calls": [call | {"function": function}]}), has_content=True)]
        if event.type == "content_block_delta":
            return self._delta(event)
        if event.type == "message_delta":
            self._stop_reason, self._output = event.delta.stop_reason, event.usage
        if event.type == "message_stop":
            return self._end()
        return []

    def _delta(self, event: Any) -> list[Translated]:
        if event.delta.type == "text_delta":
            return [Translated(self._chunk({"content": event.delta.text}), has_content=bool(event.delta.text))]
        if event.delta.type == "input_json_delta":
            call = {"index": self._tools[event.index], "function": {"arguments": event.delta.partial_json}}
            return [Translated(self._chunk({"tool_calls": [call]}), has_content=True)]
        return []

    def _end(self) -> list[Translated]:
        self.is_finished = True
        finish = Translated(self._chunk({}, finish=_finish(self._stop_reason)), is_end=True)
        report = usage_of(self._output, prompt=self._prompt) if self._prompt is not None else None
        if report is None:
            return [finish]
        written = _usage_written(report.usage) if report.usage else None
        return [finish, Translated({**self._head(), "choices": [], "usage": written}, report=report)]

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head(), "choices": [choice]}

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": 0, "model": self.model}


def _messages(written: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
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


def _content(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    if message.get("role") == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
        return [result | {"content": _text(message.get("content"))}]
    text = _text(message.get("content"))
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for call in message.get("tool_calls") or []:
        function = call["function"]
        given = orjson.loads(function.get("arguments") or "{}")
        blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    return blocks


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _tool(written: Mapping[str, Any]) -> dict[str, Any]:
    function = written["function"]
    tool = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return tool | ({"description": function["description"]} if function.get("description") else {})


def _tool_choice(written: Any) -> dict[str, Any]:
    if isinstance(written, Mapping):
        return {"type": "tool", "name": written["function"]["name"]}
    return {"type": {"required": "any", "none": "none"}.get(str(written), "auto")}


def _finish(stop_reason: str | None) -> str:
    return _FINISH.get(stop_reason or "", "stop")


def _usage_written(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }
