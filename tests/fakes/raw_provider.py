"""A provider that answers with whatever bytes were laid out: no HTTP, no JSON, no stream, or one line for ever.

It speaks both wires as far as listening goes. The case is named by the request's token limit, so that many may be asked
at once; a model that is well gets the faultless answer of its wire.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil

Wire = Literal["openai", "anthropic"]
SAID = "It is still there."
PIECE = b"x" * 65536
ID = "raw-1"


@dataclass
class RawProvider:
    """`cases[number]` are the bytes of the answer; an endless one goes on for so many bytes after them."""

    cases: Sequence[bytes]
    endless_bytes: Mapping[int, int] = field(default_factory=dict[int, int])
    well_models: frozenset[str] = frozenset()
    is_well: set[int] = field(default_factory=set[int])
    """Cases in which the well models are well."""
    swallowed: Counter[int] = field(default_factory=Counter[int])
    """The most bytes that one connection took of an endless answer."""
    repeated: tuple[bytes, int] = (b"", 0)
    """What every answer goes on with, and how often; each is sent alone, so that others get their turn."""
    end: bytes = b""
    connections: int = 0
    sent_events: int = 0
    peak_mib: int = 0
    """The most memory that this process had while one was sent."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            path, body = await asked(reader)
            self.connections += 1
            case: int = body["max_tokens"]
            wire: Wire = "anthropic" if path.endswith("/messages") else "openai"
            if body["model"] in self.well_models and case in self.is_well:
                writer.write(well(wire, is_streamed=bool(body.get("stream"))))
            else:
                writer.write(self.cases[case])
                await self._go_on(case, writer)
            await writer.drain()
        writer.close()

    async def _go_on(self, case: int, writer: asyncio.StreamWriter) -> None:
        event, count = self.repeated
        for _ in range(count):
            writer.write(event)
            await writer.drain()
            self.sent_events += 1
            await asyncio.sleep(0)
        writer.write(self.end)
        taken = 0
        for _ in range(self.endless_bytes.get(case, 0) // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
            taken += len(PIECE)
            self.swallowed[case] = max(self.swallowed[case], taken)
            self.peak_mib = max(self.peak_mib, psutil.Process().memory_info().rss >> 20)


@asynccontextmanager
async def answering(provider: RawProvider) -> AsyncGenerator[str]:
    """Yield its address."""
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def asked(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, Any]]:
    """Read one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    sizes = [line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-length:")]
    return head.split(" ")[1], json.loads(await reader.readexactly(int(sizes[0])))


def http(content: bytes, *, kind: str = "application/json", status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer whose end is the connection's."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n{headers}\r\n".encode() + content


def stream(*events: object) -> bytes:
    """A stream of these events; bytes go as they are, anything else as the JSON of a data line."""
    lines = (one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() for one in events)
    return http(b"".join(line + b"\n\n" for line in lines), kind="text/event-stream")


def well(wire: Wire, *, is_streamed: bool) -> bytes:
    """The faultless answer."""
    if is_streamed:
        return stream(*events(wire))
    return http(json.dumps(message(wire)).encode())


def message(wire: Wire) -> dict[str, Any]:
    """The faultless answer as a whole."""
    if wire == "openai":
        choice = {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
        return {"id": ID, "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return {
        "id": ID,
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": SAID}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 5},
    }


def events(wire: Wire) -> list[Any]:
    """The events of the faultless stream."""
    if wire == "openai":
        return [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": SAID}),
            chunk({}, finish_reason="stop"),
            chunk(None, usage={"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}),
            b"data: [DONE]",
        ]
    begun = message("anthropic") | {"content": [], "stop_reason": None}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SAID}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def chunk(delta: object, *, finish_reason: object = None, **members: object) -> dict[str, Any]:
    """A chunk of the OpenAI wire; without a choice where `delta` is None."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": ID, "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return head | {"choices": [] if delta is None else [choice], **members}
