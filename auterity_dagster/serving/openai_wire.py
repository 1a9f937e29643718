"""The OpenAI wire as a client: OpenAI itself, our model server, the sandbox. Bodies and frames pass as they are.

aiohttp and not the SDK: passing bytes on costs a tenth of the CPU, and nothing between us and the wire retries.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, cast

import aiohttp
import orjson

from auterity_dagster.relaycore.chat import ProviderAnswer, ProviderCall, StreamFrame
from auterity_dagster.serving.provider_http import (
    body_on,
    connection_failed,
    data_lines,
    json_object,
    lost,
    malformed,
    read_limited,
    refuse_errors,
    timeouts,
)
from auterity_dagster.serving.translation.from_openai import EventTranslation, message_of
from auterity_dagster.serving.translation.to_openai import chat_request
from auterity_dagster.serving.translation.usage import read_embedding_usage, read_openai_usage

TokenField = Literal["max_tokens", "max_completion_tokens"]

_REPLACED = frozenset({"model", "max_tokens", "max_completion_tokens", "stream", "stream_options"})
_CONTENT = ("content", "tool_calls", "refusal")


class OpenAIWireClient:
    """One provider on the OpenAI wire under one credential. `token_field` is what it calls the output limit."""

    def __init__(
        self, session: aiohttp.ClientSession, *, base_url: str, credential: str, token_field: TokenField
    ) -> None:
        self._session, self._token_field = session, token_field
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
                async for data in data_lines(response, call):
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
        url = f"{self._base}/{path}"
        return self._session.post(url, data=orjson.dumps(body), headers=headers, timeout=timeouts(call))


def read_answer(text: bytes, call: ProviderCall, *, provider_request_id: str | None) -> ProviderAnswer:
    """Read a whole answer. Raises `ProviderFailed` where it is none."""
    body = json_object(text, call)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise malformed(call, "an answer without choices")
    message: object = choices[0].get("message")
    said = cast(Mapping[str, object], message) if isinstance(message, dict) else {}
    report = read_openai_usage(body.get("usage"))
    has_content = any(said.get(name) for name in _CONTENT)
    if call.wire == "anthropic" and has_content:
        try:
            text = message_of(body, report)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise malformed(call, "an answer that cannot be translated") from error
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
    choices = body["choices"]
    report = read_openai_usage(body.get("usage"))
    delta: Mapping[str, object] = {}
    finish: object = None
    if choices and isinstance(choices[0], dict):
        choice = cast(Mapping[str, object], choices[0])
        finish = choice.get("finish_reason")
        given = choice.get("delta")
        delta = cast(Mapping[str, object], given) if isinstance(given, dict) else {}
    return StreamFrame(
        data=data,
        has_content=any(delta.get(name) for name in _CONTENT),
        is_end=finish is not None,
        report=report,
        is_usage_only=not choices and report is not None,
        provider_request_id=provider_request_id,
    )


def _translated(translation: EventTranslation, data: bytes, call: ProviderCall) -> list[StreamFrame]:
    body = _event(data, call)
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
