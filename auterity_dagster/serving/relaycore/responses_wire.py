"""OpenAI's responses as callers see them: asked and answered as a chat completion, and written as a response."""

from collections.abc import AsyncIterator
from uuid import UUID

import orjson

from auterity_dagster.errors import AuterityError, ProviderFailed
from auterity_dagster.relaycore.answer import Answer
from auterity_dagster.relaycore.chat import ProviderAnswer, StreamFrame
from auterity_dagster.serving.relaycore.answers import accounting
from auterity_dagster.serving.relaycore.responses_object import (
    call_item,
    incomplete_reason,
    message_item,
    refusal_part,
    response_object,
    text_part,
    usage_here,
)
from auterity_dagster.serving.relaycore.responses_request import read_response
from auterity_dagster.serving.relaycore.responses_stream import ResponseEvents
from auterity_dagster.serving.relaycore.wire import Asked, Body, Content
from auterity_dagster.serving.relaycore.wire_errors import WireError, interruption, openai_error


class ResponsesWire:
    """`POST /v1/responses`."""

    def read(self, written: Body) -> Content:
        return read_response(written)

    def whole(self, asked: Asked, answer: Answer, given: ProviderAnswer) -> bytes:
        completion = orjson.loads(given.body)
        choice = completion["choices"][0]
        said, key = choice["message"], asked.request.id.hex
        output: list[Body] = []
        parts = [text_part(said["content"])] if said.get("content") else []
        parts += [refusal_part(said["refusal"])] if said.get("refusal") else []
        if parts:
            output.append(message_item(f"msg_{key}_0", parts))
        for call in said.get("tool_calls") or ():
            output.append(call_item(f"fc_{key}_{len(output)}", call, arguments=call["function"]["arguments"]))
        reason = incomplete_reason(choice.get("finish_reason"))
        return orjson.dumps(
            response_object(
                asked,
                model=completion.get("model", asked.request.model),
                output=output,
                status="incomplete" if reason else "completed",
                usage=usage_here(completion.get("usage")),
                reason=reason,
            )
        )

    async def events(
        self, asked: Asked, answer: Answer, frames: AsyncIterator[StreamFrame | None]
    ) -> AsyncIterator[bytes]:
        """`response.completed` waits for the provider's end, and carries cost and attempts."""
        events = ResponseEvents(asked)
        try:
            async for frame in frames:
                if frame is None:
                    yield b": waiting\n\n"
                    continue
                for event in events.take(orjson.loads(frame.data)):
                    yield event
        except ProviderFailed as failure:
            yield events.interrupted(interruption(failure, request_id=answer.attempt.request.id)["error"])
            return
        for event in events.end(accounting(answer)):
            yield event

    def error(self, error: AuterityError, *, request_id: UUID | None) -> WireError:
        return openai_error(error, request_id=request_id)
