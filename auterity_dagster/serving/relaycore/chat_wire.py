"""OpenAI's chat completions as callers see them: whole answers and frames pass as the provider's bytes."""

from collections.abc import AsyncIterator
from uuid import UUID

import orjson

from auterity_dagster.errors import AuterityError, ProviderFailed
from auterity_dagster.relaycore.answer import Answer
from auterity_dagster.relaycore.chat import ProviderAnswer, StreamFrame
from auterity_dagster.serving.relaycore.answers import accounting
from auterity_dagster.serving.relaycore.chat_request import read_chat, wants_usage
from auterity_dagster.serving.relaycore.wire import Asked, Body, Content
from auterity_dagster.serving.relaycore.wire_errors import WireError, interruption, openai_error


class ChatWire:
    """`POST /v1/chat/completions`."""

    def read(self, written: Body) -> Content:
        return read_chat(written)

    def whole(self, asked: Asked, answer: Answer, given: ProviderAnswer) -> bytes:
        return given.body

    async def events(
        self, asked: Asked, answer: Answer, frames: AsyncIterator[StreamFrame | None]
    ) -> AsyncIterator[bytes]:
        """The frame with the finish reason waits for the provider's end, and carries cost and attempts.

        A stream that breaks off ends with an error event and without `[DONE]`: a caller can tell it from a whole one.
        """
        waiting: list[StreamFrame] = []
        usage: StreamFrame | None = None
        try:
            async for frame in frames:
                if frame is None:
                    yield b": waiting\n\n"
                elif frame.is_usage_only:
                    usage = frame
                elif frame.is_end or waiting:
                    waiting.append(frame)
                else:
                    yield b"data: " + frame.data + b"\n\n"
        except ProviderFailed as failure:
            yield _event(interruption(failure, request_id=answer.attempt.request.id))
            return
        shows_usage = wants_usage(asked.written)
        last = usage if shows_usage and usage is not None else waiting.pop() if waiting else None
        for frame in waiting:
            yield b"data: " + frame.data + b"\n\n"
        if last is not None:
            body = orjson.loads(last.data)
            if not shows_usage:
                body.pop("usage", None)
            yield _event(body | {"x_auterity": accounting(answer)})
        yield b"data: [DONE]\n\n"

    def error(self, error: AuterityError, *, request_id: UUID | None) -> WireError:
        return openai_error(error, request_id=request_id)


def _event(body: Body) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
