"""The suite's checkers see what a faulty wire does: each control breaks one thing in a stream that is valid."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import anthropic
import openai
import orjson
import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from auterity_dagster.relaycore.chat import StreamFrame
from auterity_dagster.serving.sandbox import wire_anthropic, wire_openai
from auterity_dagster.serving.sandbox.completion import complete
from auterity_dagster.serving.translation.from_anthropic import ChunkTranslation
from auterity_dagster.serving.translation.from_openai import EventTranslation
from tests.serving.conformance.checkers import (
    Violation,
    check_chunks,
    check_completion,
    check_message,
    check_message_events,
    check_response_events,
)
from tests.serving.conformance.prompts import ANTHROPIC_TOOLS, ASKS_FOR_TOOLS, OPENAI_TOOLS, RESPONSES_TOOLS

Chunks = list[dict[str, Any]]
MESSAGES: list[Any] = [{"role": "user", "content": ASKS_FOR_TOOLS}]


class WithoutIds(ChunkTranslation):
    """A wire that drops the ids of calls."""

    def _chunk(self, delta: Any, **flags: Any) -> StreamFrame:
        calls = [{**call, "id": ""} for call in delta.get("tool_calls") or ()]
        return super()._chunk({**delta, "tool_calls": calls} if calls else delta, **flags)


class NeverClosed(EventTranslation):
    """A wire that leaves its content blocks open."""

    def _closed(self) -> list[StreamFrame]:
        self._open = None
        return []


def sandbox_events(wire: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    """What the sandbox sends on a wire for two calls of tools."""
    asked = wire.asked({"model": "sandbox-large", "max_tokens": 300, "messages": MESSAGES, **body})
    completion = complete(asked, fault=None, seed=0)
    lines = "".join(text for text, _ in wire.events("id-1", "sandbox-large", completion, with_usage=False)).splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def chunks_of(translation: ChunkTranslation) -> list[ChatCompletionChunk]:
    """A stream of the Anthropic wire as the translation turns it into chunks."""
    events = sandbox_events(wire_anthropic, {"tools": ANTHROPIC_TOOLS})
    frames = [frame for event in events for frame in translation.take(event, None)]
    return [ChatCompletionChunk.construct(**orjson.loads(frame.data)) for frame in frames]


def events_of(translation: EventTranslation) -> list[BaseModel]:
    """A stream of the OpenAI wire as the translation turns it into events."""
    chunks = sandbox_events(wire_openai, {"tools": OPENAI_TOOLS})
    frames = [frame for chunk in chunks for frame in translation.take(chunk, None)]
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    return [adapter.validate_json(frame.data) for frame in (*frames, *translation.end())]


def test_a_wire_that_drops_the_id_of_a_call_is_found() -> None:
    check_chunks(chunks_of(ChunkTranslation("m")), with_usage=False)

    with pytest.raises(Violation, match="every call has an id"):
        check_chunks(chunks_of(WithoutIds("m")), with_usage=False)


def test_a_wire_that_leaves_blocks_open_is_found() -> None:
    check_message_events(events_of(EventTranslation("m")))

    with pytest.raises(Violation):
        check_message_events(events_of(NeverClosed("m")))


def swapped(events: list[Any]) -> list[Any]:
    return [events[1], events[0], *events[2:]]


@pytest.mark.parametrize(
    "broken",
    [
        lambda events: events[:-1],
        lambda events: [event for event in events if event.type != "content_block_stop"],
        lambda events: [*events[:2], events[1], *events[2:]],
        swapped,
    ],
    ids=["no end", "no block end", "a block begins twice", "out of order"],
)
def test_a_broken_stream_of_messages_is_found(
    anthropic_sdk: anthropic.Anthropic, broken: Callable[[list[Any]], list[Any]]
) -> None:
    events = list(
        anthropic_sdk.messages.create(
            model="claude-opus-5-5",
            max_tokens=300,
            messages=MESSAGES,
            tools=ANTHROPIC_TOOLS,
            stream=True,
        )
    )
    check_message_events(events)

    with pytest.raises(Violation):
        check_message_events(broken(events))


@pytest.mark.parametrize(
    "broken",
    [
        lambda events: events[:-1],
        lambda events: [event for event in events if not event.type.endswith("arguments.delta")],
        lambda events: [event for event in events if event.type != "response.output_item.added"],
        swapped,
    ],
    ids=["no end", "no deltas", "items never added", "out of order"],
)
def test_a_broken_stream_of_a_response_is_found(
    openai_sdk: openai.OpenAI, broken: Callable[[list[Any]], Iterable[ResponseStreamEvent]]
) -> None:
    events = list(
        openai_sdk.responses.create(model="sandbox-large", input=ASKS_FOR_TOOLS, tools=RESPONSES_TOOLS, stream=True)
    )
    check_response_events(events)

    with pytest.raises(Violation):
        check_response_events(broken(events))


def test_whole_answers_with_a_fault_are_found(openai_sdk: openai.OpenAI, anthropic_sdk: anthropic.Anthropic) -> None:
    completion = openai_sdk.chat.completions.create(model="sandbox-large", messages=MESSAGES, tools=OPENAI_TOOLS)
    message = anthropic_sdk.messages.create(
        model="claude-opus-5-5",
        max_tokens=300,
        messages=MESSAGES,
        tools=ANTHROPIC_TOOLS,
    )
    calls: Any = completion.choices[0].message.tool_calls
    calls[1].id = calls[0].id
    message.stop_reason = "end_turn"

    with pytest.raises(Violation, match="no two calls share an id"):
        check_completion(completion)
    with pytest.raises(Violation, match="the stop reason tells of calls"):
        check_message(message)
    completion.choices[0].finish_reason = "done"  # type: ignore[assignment]
    with pytest.raises(Violation, match="finish_reason"):
        check_completion(completion)
