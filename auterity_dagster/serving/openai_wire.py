"""The OpenAI wire as a client: OpenAI itself, our model server, the sandbox. Bodies and frames pass as they are.

aiohttp and not the SDK: passing bytes on costs a tenth of the CPU, and nothing between us and the wire retries.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, cast

import aiohttp

from auterity_dagster.relaycore.chat import ProviderAnswer, ProviderCall, StreamFrame
from auterity_dagster.serving.answer_shape import openai_says
from auterity_dagster.serving.provider_http import (
    body_on,
    connection_failed,
    data_lines,
    json_object,
    lost,
    malformed,
    post,
    read_limited,
    refuse_errors,
)
from auterity_dagster.serving.translation.from_openai import EventTranslation, message_of
from auterity_dagster.serving.translation.to_openai import chat_request
from auterity_dagster.serving.translation.usage import read_embedding_usage, read_openai_usage

TokenField = Literal["max_tokens", "max_completion_tokens"]

STREAM_HEADER = "x-auterity-stream"
"""Names a stream that may be told of more tokens."""

_REPLACED = frozenset({"model", "max_tokens", "max_completion_tokens", "stream", "stream_options"})


class OpenAIWireClient:
    """One provider on the OpenAI wire under one credential. `token_field` is what it calls the output limit."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        credential: str,
        token_field: TokenField,
        line_limit_bytes: int,
    ) -> None:
        self._session, self._token_field, self._line_limit_bytes = session, token_field, line_limit_bytes
        self._base = base_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}

    async def complete(self, call: ProviderCall) -> ProviderAnswer:
        try:
            async with self._post(call, is_stream=False) as response:
                await refuse_errors(response, call, is_too_long=_is_too_long)
                text = await read_limited(response, call)
                request_id = response.headers.get("x-request-id")
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error
        if call.kind == "embedding":
            return read_embedding(text, call, provider_request_id=request_id)
        return read_answer(text, call, provider_request_id=request_id)

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamFrame]:
        translation = EventTranslation(call.model) if call.wire == "anthropic" else None
        try:
            async with self._post(call, is_stream=True) as response:
                await refuse_errors(response, call, is_too_long=_is_too_long)
                request_id = response.headers.get("x-request-id")
                if translation is not None:
                    translation.provider_request_id = request_id
                async for data in data_lines(response, call, limit_bytes=self._line_limit_bytes):
                    if data == b"[DONE]":
                        break
                    if translation is None:
                        yield read_frame(data, call, provider_request_id=request_id)
                    else:
                        for frame in _translated(translation, data, call):
                            yield frame
                else:
                    raise malformed(call, "the stream ended without its end mark")
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error
        for frame in translation.end() if translation is not None else ():
            yield frame

    async def count_tokens(self, call: ProviderCall) -> int | None:
        """This wire has no way to ask."""
        return None

    async def raise_limit(self, call: ProviderCall, *, max_tokens: int, is_last: bool) -> None:
        """Only our own servers know this path."""
        url = f"{self._base}/limits/{call.stream_id}"
        body = {"max_tokens": max_tokens, "is_last": is_last}
        try:
            async with post(self._session, url, body, self._headers, call) as response:
                if response.status != 204:
                    await refuse_errors(response, call, is_too_long=_is_too_long)
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error

    def _post(self, call: ProviderCall, *, is_stream: bool) -> Any:
        said = body_on("openai", call, translated=chat_request)
        body = {name: value for name, value in said.items() if name not in _REPLACED}
        body["model"] = call.model
        path = "embeddings"
        if call.kind == "chat":
            path = "chat/completions"
            body[self._token_field] = call.max_tokens
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = self._headers
        if call.traceparent is not None:
            headers = {**headers, "traceparent": call.traceparent}
        if call.stream_id is not None:
            headers = {**headers, STREAM_HEADER: str(call.stream_id)}
        url = f"{self._base}/{path}"
        return post(self._session, url, body, headers, call)


def read_answer(text: bytes, call: ProviderCall, *, provider_request_id: str | None) -> ProviderAnswer:
    """Read a whole answer. Raises `ProviderFailed` where it is none."""
    body = json_object(text, call)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise malformed(call, "an answer without choices")
    message: object = choices[0].get("message")
    said = cast(Mapping[str, object], message) if isinstance(message, dict) else {}
    report = read_openai_usage(body.get("usage"))
    try:
        has_content = openai_says(said, is_whole=True)
        if call.wire == "anthropic" and has_content:
            text = message_of(body, report)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise malformed(call, "an answer that cannot be read") from error
    return ProviderAnswer(
        body=text,
        report=report,
        has_content=has_content,
        provider_request_id=provider_request_id or str(body.get("id")),
    )


def read_embedding(text: bytes, call: ProviderCall, *, provider_request_id: str | None) -> ProviderAnswer:
    """Read an answer that holds vectors. Raises `ProviderFailed` where it is none."""
    body = json_object(text, call)
    return ProviderAnswer(
        body=text,
        report=read_embedding_usage(body.get("usage")),
        has_content=bool(body.get("data")),
        provider_request_id=provider_request_id,
    )


def read_frame(data: bytes, call: ProviderCall, *, provider_request_id: str | None) -> StreamFrame:
    """Read one event of a stream. Raises `ProviderFailed` where it is an error or nonsense."""
    body = _event(data, call)
    has_content, finish = _said(body, call)
    report = read_openai_usage(body.get("usage"))
    return StreamFrame(
        data=data,
        has_content=has_content,
        is_end=finish is not None,
        is_cut=finish == "length",
        report=report,
        is_usage_only=not body["choices"] and report is not None,
        provider_request_id=provider_request_id,
    )


def _said(body: Mapping[str, Any], call: ProviderCall) -> tuple[bool, object]:
    """Return whether an event adds to the answer, and why it ends. Raises `ProviderFailed` for another form."""
    if not body["choices"]:
        return False, None
    try:
        choice = cast(Mapping[str, Any], body["choices"][0])
        return openai_says(choice.get("delta") or {}, is_whole=False), choice.get("finish_reason")
    except (AttributeError, TypeError) as error:
        raise malformed(call, "an event that cannot be read") from error


def _translated(translation: EventTranslation, data: bytes, call: ProviderCall) -> list[StreamFrame]:
    body = _event(data, call)
    _said(body, call)
    try:
        return list(translation.take(body, read_openai_usage(body.get("usage"))))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise malformed(call, "an event that cannot be translated") from error


def _event(data: bytes, call: ProviderCall) -> Mapping[str, Any]:
    body = json_object(data, call)
    if "error" in body:
        raise lost(call, "an error inside the stream", cause="server_error")
    if not isinstance(body.get("choices"), list):
        raise malformed(call, "an event without choices")
    return body


def _is_too_long(error: Mapping[str, Any]) -> bool:
    return error.get("code") == "context_length_exceeded"
