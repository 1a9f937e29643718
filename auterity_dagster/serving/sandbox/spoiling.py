"""What a fault does to an answer on its way: it breaks off, an event is spoiled, a line does not end."""

from collections.abc import Iterable, Iterator
from typing import Any

from starlette.responses import StreamingResponse

ENDLESS_LINE_BYTES = 4 * 1024 * 1024

Event = tuple[str, int]
"""Text as it goes over the line, and how many tokens of the answer it carries."""


class CutOff(Exception):
    """Ends a response in the middle."""


def spoiled_stream(fault: str | None, events: Iterable[Event], *, error: str) -> Iterator[Event]:
    """Yield a stream's events as the fault leaves them; `error` is an error event of this wire. Raises `CutOff`."""
    before = {
        "error_event": error,
        "bad_event": "data: {nonsense\n\n",
        "endless_line": f"data: {'x' * ENDLESS_LINE_BYTES}",
    }
    if fault in before:
        yield before[fault], 0
    listed = list(events)
    tokens = [index for index, (_, count) in enumerate(listed) if count]
    middle = tokens[len(tokens) // 2] if tokens else 0
    cut_at = {"cut_at_start": 0, "cut_first_byte": 0, "cut_at_end": len(listed) - 1}
    cut_at |= dict.fromkeys(("cut_stream", "reset", "late_error_event"), middle)
    yield from listed[: cut_at.get(fault or "")]
    if fault == "cut_first_byte":
        yield listed[0][0][:1], 0
    if fault == "late_error_event":
        yield error, 0
    if fault in cut_at:
        raise CutOff


def spoiled_text(fault: str | None, text: str) -> Iterator[str]:
    """Yield a JSON answer as the fault leaves it. Raises `CutOff`."""
    cut_at = {"cut_at_start": 0, "cut_first_byte": 1, "cut_at_end": len(text) - 1}
    cut_at |= dict.fromkeys(("cut_stream", "reset"), len(text) // 2)
    yield text[: cut_at.get(fault or "")]
    if fault in cut_at:
        raise CutOff


class BreakableResponse(StreamingResponse):
    """A response that closes its connection without an end when its content raises `CutOff`."""

    async def stream_response(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self.body_iterator:
                data = chunk.encode() if isinstance(chunk, str) else chunk
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except CutOff:
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
