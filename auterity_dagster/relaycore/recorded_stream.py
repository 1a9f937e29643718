"""A stream that remembers what passed, for whoever needs the whole answer once it has ended."""

from collections.abc import AsyncIterator, Awaitable, Callable

from auterity_dagster.relaycore.answer import AnswerStream
from auterity_dagster.relaycore.chat import StreamFrame

RECORDED_BYTES = 1024 * 1024
"""A longer stream is passed on and forgotten."""

Ended = Callable[[tuple[StreamFrame, ...]], Awaitable[None]]


class RecordedStream:
    """Passes a stream on, and hands its frames over once it has ended as it should."""

    def __init__(self, stream: AnswerStream, ended: Ended) -> None:
        self._stream, self._ended = stream, ended

    @property
    def is_broken(self) -> bool:
        """As the stream itself."""
        return self._stream.is_broken

    @property
    def has_content_ready(self) -> bool:
        """As the stream itself."""
        return self._stream.has_content_ready

    async def frames(self, *, heartbeat_s: float) -> AsyncIterator[StreamFrame | None]:
        """Yield the stream's frames."""
        passed: list[StreamFrame] = []
        size = 0
        async for frame in self._stream.frames(heartbeat_s=heartbeat_s):
            if frame is not None and size <= RECORDED_BYTES:
                passed.append(frame)
                size += len(frame.data)
            yield frame
        if size <= RECORDED_BYTES:
            await self._ended(tuple(passed))

    def leave(self) -> None:
        """What did not end is not handed over."""
        self._stream.leave()
