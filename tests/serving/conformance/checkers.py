"""What the official SDKs take for valid: their own types, and the order in which they accept the events of a stream."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anthropic.types import Message
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

Events = Sequence[Mapping[str, Any]]


class Violation(AssertionError):
    """An answer that the SDK's types do not admit, or that breaks the order of its stream."""


def demand(holds: bool, what: str) -> None:
    """Raise `Violation` unless it holds."""
    if not holds:
        raise Violation(what)


def check_types(answer: BaseModel) -> None:
    """The SDKs build their objects without looking: here every field is held to its declared type."""
    try:
        type(answer).model_validate(answer.model_dump(by_alias=True, exclude_unset=True, warnings=False))
    except ValueError as error:
        raise Violation(f"{type(answer).__name__}: {error}") from error


def check_completion(completion: ChatCompletion) -> None:
    """Check a whole chat completion."""
    check_types(completion)
    [choice] = completion.choices
    calls = choice.message.tool_calls or []
    _check_calls([(call.id, call.function.name, call.function.arguments) for call in calls])  # type: ignore[union-attr]
    demand(bool(calls) == (choice.finish_reason == "tool_calls"), "the finish reason tells of calls that are there")
    usage = completion.usage
    demand(usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "usage adds up")


def check_chunks(chunks: Sequence[ChatCompletionChunk], *, with_usage: bool) -> None:
    """Check a stream of chat completion chunks."""
    for chunk in chunks:
        check_types(chunk)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    demand(len({chunk.id for chunk in chunks}) == 1, "every chunk has the id of the answer")
    demand(choices[0].delta.role == "assistant", "the first chunk names the role")
    finishes = [choice.finish_reason for choice in choices if choice.finish_reason]
    demand(len(finishes) == 1 and choices[-1].finish_reason is not None, "one finish reason, on the last choice")
    deltas = [call for choice in choices for call in choice.delta.tool_calls or ()]
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        function = delta.function
        if delta.index not in calls:
            demand(delta.index == len(calls), "calls are numbered from 0 without gaps")
            calls[delta.index] = [delta.id or "", (function and function.name) or "", ""]
        calls[delta.index][2] += (function and function.arguments) or ""
    _check_calls([(call[0], call[1], call[2]) for call in calls.values()])
    last = chunks[-1]
    demand((last.usage is not None and not last.choices) == with_usage, "the usage comes last, and only if asked for")


def check_message(message: Message) -> None:
    """Check a whole message."""
    check_types(message)
    calls = [block for block in message.content if block.type == "tool_use"]
    _check_calls([(block.id, block.name, json.dumps(block.input)) for block in calls])
    demand(bool(calls) == (message.stop_reason == "tool_use"), "the stop reason tells of calls that are there")
    demand(message.usage.input_tokens > 0 and message.usage.output_tokens > 0, "the usage is there")


def check_message_events(events: Iterable[BaseModel]) -> None:
    """Check the order of a stream of messages events: blocks open and close one after the other, numbered from 0."""
    listed = list(events)
    for event in listed:
        check_types(event)
    kinds = [event.type for event in listed]  # type: ignore[attr-defined]
    demand(kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], "it begins and ends")
    following, is_open = 0, False
    for event in listed[1:-2]:
        kind, index = event.type, event.index  # type: ignore[attr-defined]
        demand(index == following, "events belong to the block whose turn it is")
        demand(is_open == (kind != "content_block_start"), f"{kind} comes in its turn")
        is_open = kind != "content_block_stop"
        following += not is_open
    demand(not is_open, "the last block is closed")


def check_response_events(events: Iterable[BaseModel]) -> None:
    """Check the order of a stream of response events, and that its parts make up what its end says."""
    listed = list(events)
    for event in listed:
        check_types(event)
    numbers = [event.sequence_number for event in listed]  # type: ignore[attr-defined]
    demand(numbers == list(range(len(listed))), "events are numbered from 0 without gaps")
    kinds = [event.type for event in listed]  # type: ignore[attr-defined]
    demand(kinds[:2] == ["response.created", "response.in_progress"], "it begins")
    demand(kinds[-1] in ("response.completed", "response.incomplete"), "it ends")
    done = [event.item for event in listed if event.type == "response.output_item.done"]  # type: ignore[attr-defined]
    added = [event for event in listed if event.type == "response.output_item.added"]  # type: ignore[attr-defined]
    demand([event.output_index for event in added] == list(range(len(done))), "each item is added once")  # type: ignore[attr-defined]
    output = listed[-1].response.output  # type: ignore[attr-defined]
    demand([one.to_dict() for one in output] == [one.to_dict() for one in done], "the end repeats the items")
    for place, item in enumerate(output):
        deltas = [event for event in listed if event.type.endswith(".delta") and event.output_index == place]  # type: ignore[attr-defined]
        text = "".join(event.delta for event in deltas)  # type: ignore[attr-defined]
        whole = item.arguments if item.type == "function_call" else item.content[0].text
        demand(text == whole, "the deltas of an item make up the item")
    calls = [(item.call_id, item.name, item.arguments) for item in output if item.type == "function_call"]
    _check_calls(calls)


def _check_calls(calls: Sequence[tuple[str, str, str]]) -> None:
    demand(all(call_id for call_id, _, _ in calls), "every call has an id")
    demand(len({call_id for call_id, _, _ in calls}) == len(calls), "no two calls share an id")
    for _, name, arguments in calls:
        demand(bool(name), "every call names its tool")
        try:
            given = json.loads(arguments)
        except ValueError as error:
            raise Violation("arguments are JSON") from error
        demand(isinstance(given, dict), "arguments are an object")
