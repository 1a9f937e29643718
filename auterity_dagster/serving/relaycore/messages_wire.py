"""Anthropic's messages as callers see them: whole answers and events pass as the provider's bytes."""

from collections.abc import AsyncIterator
from uuid import UUID

import orjson

from auterity_dagster.errors import AuterityError, ProviderFailed
from auterity_dagster.relaycore.answer import Answer
from auterity_dagster.relaycore.chat import ProviderAnswer, StreamFrame
from auterity_dagster.serving.relaycore.answers import accounting
from auterity_dagster.serving.relaycore.messages_request import read_messages
from auterity_dagster.serving.relaycore.wire import Asked, Body, Content
from auterity_dagster.serving.relaycore.wire_errors import WireError, anthropic_error, anthropic_interruption

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class MessagesWire:
    """`POST /v1/messages`."""

    def read(self, written: Body) -> Content:
        return read_messages(written)

    def whole(self, asked: Asked, answer: Answer, given: ProviderAnswer) -> bytes:
        return given.body

    async def events(
        self, asked: Asked, answer: Answer, frames: AsyncIterator[StreamFrame | None]
    ) -> AsyncIterator[bytes]:
        """The stop reason waits for the provider's end, and carries cost and attempts.

        A stream that breaks off ends with an error event and without `message_stop`: the SDK raises.
        """
        waiting: list[StreamFrame] = []
        try:
            async for frame in frames:
                if frame is None:
                    yield PING
                elif frame.is_usage_only:
                    continue
                elif frame.is_end or waiting:
                    waiting.append(frame)
                else:
                    yield b"event: " + frame.event + b"\ndata: " + frame.data + b"\n\n"
        except ProviderFailed as failure:
            error = anthropic_interruption(failure, request_id=answer.attempt.request.id)
            yield b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"
            return
        for frame in waiting:
            data = frame.data
            if frame.event == b"message_delta":
                data = orjson.dumps(orjson.loads(data) | {"x_auterity": accounting(answer)})
            yield b"event: " + frame.event + b"\ndata: " + data + b"\n\n"

    def error(self, error: AuterityError, *, request_id: UUID | None) -> WireError:
        return anthropic_error(error, request_id=request_id)
