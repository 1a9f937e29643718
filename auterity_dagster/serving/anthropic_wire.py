"""The Anthropic wire as a client: its callers get bodies and events as they are, those of the OpenAI wire translated.

aiohttp and not the SDK, as on the OpenAI wire: what is passed on unread need not become objects first.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.chat import ProviderAnswer, ProviderCall, StreamFrame, UsageReport
from auterity_dagster.serving.answer_shape import require_block, require_event
from auterity_dagster.serving.provider_http import (
    body_on,
    connection_failed,
    data_lines,
    failed_with_status,
    json_object,
    lost,
    malformed,
    post,
    read_limited,
    refuse_errors,
)
from auterity_dagster.serving.translation.from_anthropic import ChunkTranslation, completion_of
from auterity_dagster.serving.translation.to_anthropic import messages_request
from auterity_dagster.serving.translation.usage import read_anthropic_usage

VERSION = "2023-06-01"

_REPLACED = frozenset({"model", "max_tokens", "stream"})
_CONTENT_DELTAS = frozenset({"text_delta", "input_json_delta", "thinking_delta"})


class AnthropicWireClient:
    """One provider on the Anthropic wire under one credential."""

    def __init__(
        self, session: aiohttp.ClientSession, *, base_url: str, credential: str, line_limit_bytes: int
    ) -> None:
        self._session, self._line_limit_bytes = session, line_limit_bytes
        self._url = f"{base_url.rstrip('/')}/v1/messages"
        self._headers = {"x-api-key": credential, "anthropic-version": VERSION, "content-type": "application/json"}

    async def complete(self, call: ProviderCall) -> ProviderAnswer:
        try:
            async with self._post(call, {"max_tokens": call.max_tokens}) as response:
                await refuse_errors(response, call, is_too_long=_is_too_long)
                text = await read_limited(response, call)
                return _answer(text, call, provider_request_id=response.headers.get("request-id"))
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamFrame]:
        events = _Events(call)
        try:
            async with self._post(call, {"max_tokens": call.max_tokens, "stream": True}) as response:
                await refuse_errors(response, call, is_too_long=_is_too_long)
                events.answered(response.headers.get("request-id"))
                async for data in data_lines(response, call, limit_bytes=self._line_limit_bytes):
                    for frame in events.take(data):
                        yield frame
                    if events.is_finished:
                        return
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error
        raise malformed(call, "the stream ended without message_stop")

    async def count_tokens(self, call: ProviderCall) -> int | None:
        """Ask the provider, which charges nothing for it."""
        try:
            async with self._post(call, {}, path="/count_tokens") as response:
                await refuse_errors(response, call, is_too_long=_is_too_long)
                count = json_object(await read_limited(response, call), call).get("input_tokens")
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error
        if not isinstance(count, int):
            raise malformed(call, "no count of tokens")
        return count

    async def raise_limit(self, call: ProviderCall, *, max_tokens: int, is_last: bool) -> None:
        """This wire has no way to do that; no deployment that speaks it says it could."""
        raise failed_with_status(call, 404, code=None, retry_after=None)

    def _post(self, call: ProviderCall, replaced: Mapping[str, object], *, path: str = "") -> Any:
        said = body_on("anthropic", call, translated=messages_request)
        body = {name: value for name, value in said.items() if name not in _REPLACED}
        body |= {"model": call.model, **replaced}
        headers = self._headers
        if call.traceparent is not None:
            headers = {**headers, "traceparent": call.traceparent}
        return post(self._session, self._url + path, body, headers, call)


class _Events:
    """Reads a stream's events: the prompt's usage comes with the first one, the output's with the last but one."""

    def __init__(self, call: ProviderCall) -> None:
        self._call = call
        self._translation = ChunkTranslation(call.model) if call.wire == "openai" else None
        self._prompt: Mapping[str, Any] | None = None
        self._report: UsageReport | None = None
        self._request_id: str | None = None
        self.is_finished = False

    def answered(self, request_id: str | None) -> None:
        """Note the id under which the provider answers."""
        self._request_id = request_id
        if self._translation is not None:
            self._translation.provider_request_id = request_id

    def take(self, data: bytes) -> list[StreamFrame]:
        """Return the caller's frames for one event. Raises `ProviderFailed` where it is an error or nonsense."""
        event = json_object(data, self._call)
        try:
            return self._read(data, event)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise malformed(self._call, "an event that cannot be read") from error

    def _read(self, data: bytes, event: Mapping[str, Any]) -> list[StreamFrame]:
        kind: str = event["type"]
        require_event(kind, event)
        if kind == "error":
            raise _failed_inside(self._call, event.get("error"))
        if kind == "ping":
            return []
        if kind == "message_start":
            self._prompt = event["message"].get("usage")
        elif kind == "message_delta":
            self._report = self._merged(event.get("usage"))
        elif kind == "message_stop":
            self.is_finished = True
        if self._translation is not None:
            return list(self._translation.take(event, self._report))
        is_delta = kind == "message_delta"
        frame = StreamFrame(
            data=data,
            event=kind.encode(),
            has_content=_has_content(kind, event),
            is_end=is_delta or self.is_finished,
            report=self._report if is_delta else None,
            provider_request_id=self._request_id,
        )
        return [frame]

    def _merged(self, usage: Mapping[str, Any] | None) -> UsageReport | None:
        """The counts of `message_delta` are totals; those that it leaves out stand as they were at the start."""
        if usage is None or self._prompt is None:
            return None
        return read_anthropic_usage({**self._prompt, **{name: one for name, one in usage.items() if one is not None}})


def _has_content(kind: str, event: Mapping[str, Any]) -> bool:
    if kind == "content_block_delta":
        return event["delta"]["type"] in _CONTENT_DELTAS
    return kind == "content_block_start" and event["content_block"]["type"] not in ("text", "thinking")


def _answer(text: bytes, call: ProviderCall, *, provider_request_id: str | None) -> ProviderAnswer:
    message = json_object(text, call)
    report = read_anthropic_usage(message.get("usage"))
    try:
        content: list[object] = message["content"]
        for block in content:
            require_block(block)
        has_content = bool(content)
        body = completion_of(message, report) if call.wire == "openai" else text
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise malformed(call, "an answer that is no message") from error
    return ProviderAnswer(
        body=body,
        report=report,
        has_content=has_content,
        provider_request_id=provider_request_id or str(message.get("id")),
    )


def _is_too_long(error: Mapping[str, Any]) -> bool:
    return "prompt is too long" in str(error.get("message"))


def _failed_inside(call: ProviderCall, error: Mapping[str, Any] | None) -> ProviderFailed:
    """An error event in a stream that had begun: what was sent before it may be billed."""
    is_busy = (error or {}).get("type") in ("overloaded_error", "rate_limit_error")
    return lost(call, "an error inside the stream", cause="overloaded" if is_busy else "server_error")
