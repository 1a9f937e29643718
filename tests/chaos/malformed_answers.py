"""Answers that no provider should give: broken HTTP, JSON that is no answer, and streams that say nothing readable.

Each breaks before the first word, so that its caller gets an error with a code, or the next deployment's answer.
"""

import gzip
import json
from collections.abc import Iterator

from tests.fakes.raw_provider import Wire, chunk, events, http, message, stream

DEEP = 600
WRONG = (None, 42, "text", [], [None], [42], {}, {"a": {"b": [1]}}, True)
"""What may stand where something else belongs."""

NEITHER = (
    b"",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 100_000 + b"\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: minus one\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n{}",
    http(b"not gzip", headers="content-encoding: gzip\r\n"),
    http(gzip.compress(b"\0" * (20 << 20)), headers="content-encoding: gzip\r\n"),
    http(b"<html>Sign in</html>", kind="text/html"),
    http(b"{}", status="302 Found", headers="location: http://127.0.0.1:9/elsewhere\r\n"),
    http(b"{}", status="307 Temporary Redirect", headers="location: /again\r\n"),
    http(b"", status="204 No Content"),
    http(b"{}", status="999 Odd"),
    http(b"\xff\xfe\x00broken"),
    http(b"NaN"),
    http(b"[" * 100_000),
    http(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    http(b'{"id": "\xc3\x28"}'),
    http(b"{" + b'"a":1,' * 10_000),
)
"""No answer on any wire, whole or streamed."""


def whole_answers(wire: Wire) -> Iterator[bytes]:
    """Whole answers that are none."""
    for value in (*WRONG, ""):
        yield http(json.dumps(value).encode())
    if wire == "openai":
        wrong = [{"choices": value} for value in WRONG]
        wrong += [{"choices": [{"message": value, "finish_reason": "stop"}]} for value in WRONG]
        said = [{"content": value} for value in WRONG if value not in ("text", True)]
        said += [{"content": None, "tool_calls": value} for value in WRONG]
        said += [{"content": None, "tool_calls": [{"id": "c", "type": "function", "function": one}]} for one in WRONG]
        wrong += [{"choices": [{"index": 0, "message": one, "finish_reason": "stop"}]} for one in said]
    else:
        wrong = [{"content": value} for value in WRONG]
        wrong += [{"content": [{"type": value}]} for value in WRONG if value != "text"]
        wrong += [{"content": [{"type": "text", "text": value}]} for value in WRONG if value != "text"]
        wrong += [
            {"content": [{"type": "tool_use", "id": "t", "name": value, "input": {}}]} for value in (None, 42, [])
        ]
        wrong += [{"content": [{"type": "tool_use", "id": "t", "name": "n", "input": one}]} for one in (None, 42, "x")]
    for one in wrong:
        yield http(json.dumps(message(wire) | one).encode())


def streams(wire: Wire) -> Iterator[bytes]:
    """Streams that end, or break, before the model said anything."""
    first, *_, last = events(wire)
    for value in (*WRONG, "", b"data: {", b"data: \xff\xfe", b"data:", b"data: [DONE]", b"\0\0\0"):
        yield stream(value)
        yield stream(first, value)
    yield stream(first)
    yield stream(first, last)
    yield stream(last, first)
    yield stream(*[first] * 100)
    yield stream(*[b": nothing"] * 1000)
    yield stream(first, b"data: " + b"[" * DEEP + b"]" * DEEP)
    yield stream(first, b"data: " + b'{"a":' * DEEP + b"1" + b"}" * DEEP)
    if wire == "openai":
        for value in WRONG:
            yield stream({"choices": value})
            yield stream(chunk(value))
            yield stream(chunk({"tool_calls": value}))
            yield stream(chunk({"tool_calls": [{"index": 0, "function": value}]}))
        for value in (42, [], {}, True):
            yield stream(chunk({"content": value}))
        return
    for value in WRONG:
        yield stream(first, {"type": value})
        yield stream({"type": "message_start", "message": value})
        yield stream(first, {"type": "content_block_start", "index": 0, "content_block": value})
        yield stream(first, {"type": "content_block_delta", "index": 0, "delta": value})
    for value in (None, 42, [], {}, True):
        yield stream(first, {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": value}})


def corpus(wire: Wire, *, is_streamed: bool) -> list[bytes]:
    """Every malformed answer to a request of this kind."""
    return [*NEITHER, *(streams(wire) if is_streamed else whole_answers(wire))]
