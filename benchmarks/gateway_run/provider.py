"""The mock provider: the OpenAI wire as JSON or server-sent events, at a cost that leaves the gateway the bottleneck.

Usage: python -m benchmarks.gateway_run.provider PORT. Every request gets the same answer; a stream's events leave one
by one, each in a turn of the event loop of its own, so that a reader sees them as they come from a real provider.
"""

import asyncio
import sys

import httptools
import orjson
import uvloop

WORD = "word"
EVENTS = 64
USAGE = {"prompt_tokens": 120, "completion_tokens": EVENTS, "total_tokens": 120 + EVENTS}
_COMMON = {"id": "chatcmpl-bench", "created": 1_760_000_000, "model": "mock"}


def _whole() -> bytes:
    message = {"role": "assistant", "content": " ".join([WORD] * EVENTS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = orjson.dumps(_COMMON | {"object": "chat.completion", "choices": [choice], "usage": USAGE})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _events() -> list[bytes]:
    def event(**changed: object) -> bytes:
        return b"data: " + orjson.dumps(_COMMON | {"object": "chat.completion.chunk"} | changed) + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, object]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    said = [event(choices=choice({"content": f"{WORD} "})) for _ in range(EVENTS)]
    first = event(choices=choice({"role": "assistant", "content": ""}))
    return [first, *said, event(choices=choice({}, "stop")), event(choices=[], usage=USAGE), b"data: [DONE]\n\n"]


WHOLE = _whole()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = [b"%x\r\n%b\r\n" % (len(event), event) for event in _events()] + [b"0\r\n\r\n"]


class Provider(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        is_stream = b'"stream":true' in self._body.replace(b" ", b"")
        self._body = b""
        if is_stream:
            self._transport.write(STREAM_HEAD)
            self._loop.call_soon(self._send, 0)
        else:
            self._transport.write(WHOLE)

    def _send(self, index: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(STREAM[index])
        if index + 1 < len(STREAM):
            self._loop.call_soon(self._send, index + 1)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
