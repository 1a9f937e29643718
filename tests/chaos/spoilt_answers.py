"""Generated answers that were faultless once: of texts and calls of tools, spoilt in values, in events and in bytes."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.chaos.malformed_answers import WRONG
from tests.fakes.raw_provider import Wire, chunk, events, http, message

TOOL_EVENTS: list[Any] = [
    chunk({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "n", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]}),
]
TOOL_BLOCKS: list[Any] = [
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a": 1}'}},
    {"type": "content_block_stop", "index": 1},
]
values = st.one_of(
    st.sampled_from((*WRONG, -1, 1e300, 2**70, "", "\ud83d\ude00", [[[[[]]]]])), st.text(max_size=5), st.integers()
)


@st.composite
def spoilt(draw: st.DrawFn, wire: Wire, *, is_streamed: bool) -> bytes:
    """Answers of a wire with one to four things wrong."""
    parts = [message_with_tool(wire)] if not is_streamed else stream_with_tool(wire)
    for _ in range(draw(st.integers(1, 4))):
        draw(st.sampled_from((spoil_value, spoil_value, spoil_value, spoil_order)))(draw, parts)
    if not is_streamed:
        return http(spoil_bytes(draw, json.dumps(parts[0]).encode()))
    lines = (one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() for one in parts)
    end = draw(st.sampled_from((b"\n\n", b"\r\n\r\n", b"\n")))
    return http(spoil_bytes(draw, b"".join(line + end for line in lines)), kind="text/event-stream")


def message_with_tool(wire: Wire) -> dict[str, Any]:
    whole = message(wire)
    if wire == "openai":
        call = {"id": "c", "type": "function", "function": {"name": "n", "arguments": '{"a": 1}'}}
        whole["choices"][0]["message"]["tool_calls"] = [call]
    else:
        whole["content"].append({"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}})
    return whole


def stream_with_tool(wire: Wire) -> list[Any]:
    listed = events(wire)
    place = 2 if wire == "openai" else 4
    return copy.deepcopy(listed[:place] + (TOOL_EVENTS if wire == "openai" else TOOL_BLOCKS) + listed[place:])


def spoil_value(draw: st.DrawFn, parts: list[Any]) -> None:
    """Put something else into one place of one object, or take the place away."""
    objects = [one for one in parts if isinstance(one, dict)]
    if not objects:
        return
    holder: Any = draw(st.sampled_from(objects))
    while holder:
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
            holder = inner
            continue
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(values))
        return


def spoil_order(draw: st.DrawFn, parts: list[Any]) -> None:
    """Leave an event out, say it twice, or put it elsewhere."""
    if len(parts) < 2:
        return
    one = parts.pop(draw(st.integers(0, len(parts) - 1)))
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), copy.deepcopy(one))


def spoil_bytes(draw: st.DrawFn, text: bytes) -> bytes:
    """Cut the bytes off, or change some; mostly leave them."""
    how = draw(st.integers(0, 5))
    place = draw(st.integers(0, len(text)))
    if how == 0:
        return text[:place]
    if how == 1:
        return text[:place] + draw(st.binary(min_size=1, max_size=6)) + text[place + 1 :]
    return text
