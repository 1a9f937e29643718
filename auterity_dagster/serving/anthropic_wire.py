"""The Anthropic wire as a client, through its SDK: requests and answers are translated from and to the OpenAI wire."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import anthropic
import httpx2
import orjson
from anthropic.types import Message, RawMessageStreamEvent

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.chat import ProviderAnswer, ProviderCall, StreamFrame
from auterity_dagster.serving.anthropic_translation import StreamTranslation, answer_of, messages_request, usage_of
from auterity_dagster.serving.openai_wire import failed_with_status, malformed

_ERROR_STATUS = {"overloaded_error": 529, "rate_limit_error": 429, "authentication_error": 401, "billing_error": 402}


class AnthropicWireClient:
    """Anthropic under one credential. The SDK's own retries are off: every attempt needs a hold of its own."""

    def __init__(self, *, base_url: str, credential: str) -> None:
        self._client = anthropic.AsyncAnthropic(base_url=base_url, api_key=credential, max_retries=0)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def complete(self, call: ProviderCall) -> ProviderAnswer:
        request = _request(call)
        try:
            message: Message = await self._client.messages.create(**request, timeout=_timeout(call))
        except anthropic.AnthropicError as error:
            raise _failed(call, error) from error
        except ValueError as error:
            raise malformed(call, "no JSON") from error
        try:
            answer = answer_of(message)
        except (AttributeError, TypeError, ValueError) as error:
            raise malformed(call, "an answer that is no message") from error
        return ProviderAnswer(
            body=orjson.dumps(answer),
            report=usage_of(message.usage),
            has_content=bool(message.content),
            provider_request_id=message._request_id or message.id,
        )

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamFrame]:
        request = _request(call)
        translation = StreamTranslation(call.model)
        try:
            source = await self._client.messages.create(**request, stream=True, timeout=_timeout(call))
            request_id = source.response.headers.get("request-id")
            try:
                async for event in source:
                    for frame in _frames(translation, event, call, provider_request_id=request_id):
                        yield frame
            finally:
                await source.close()
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise _failed(call, error) from error
        except ValueError as error:
            raise malformed(call, "no JSON") from error
        if not translation.is_finished:
            raise malformed(call, "the stream ended without message_stop")


def _request(call: ProviderCall) -> dict[str, Any]:
    try:
        return messages_request(call.body, model=call.model, max_tokens=call.max_tokens)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise failed_with_status(call, 400, code=None, retry_after=None) from error


def _frames(
    translation: StreamTranslation, event: RawMessageStreamEvent, call: ProviderCall, *, provider_request_id: str | None
) -> list[StreamFrame]:
    try:
        translated = translation.take(event)
    except (AttributeError, TypeError, ValueError) as error:
        raise malformed(call, "an event that cannot be read") from error
    return [
        StreamFrame(
            data=orjson.dumps(one.chunk),
            has_content=one.has_content,
            is_end=one.is_end,
            report=one.report,
            is_usage_only=one.report is not None,
            provider_request_id=provider_request_id,
        )
        for one in translated
    ]


def _failed(call: ProviderCall, error: Exception) -> ProviderFailed:
    if isinstance(error, anthropic.APIStatusError):
        status, body = error.status_code, error.body
        if status == 200:  # an error event inside a stream that had begun
            status = _ERROR_STATUS.get(_error_type(body), 500)
            if status in (429, 529):
                return _lost(call, "overloaded")
        return failed_with_status(
            call, status, code=_context_code(body), retry_after=error.response.headers.get("retry-after")
        )
    if isinstance(error, anthropic.APIResponseValidationError):
        return malformed(call, "no message")
    cause = error.__cause__ or error
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        return ProviderFailed(
            f"{call.deployment_id}: {type(cause).__name__}",
            deployment=call.deployment_id,
            cause="connection",
            is_billed=False,
        )
    return _lost(call, "connection")


def _lost(call: ProviderCall, cause: str) -> ProviderFailed:
    """A failure after something was sent: nobody knows whether it is billed."""
    return ProviderFailed(
        f"{call.deployment_id}: the stream broke off", deployment=call.deployment_id, cause=cause, is_billed=None
    )


def _error_type(body: object) -> str:
    error: Any = body.get("error") if isinstance(body, Mapping) else None
    return str(error.get("type")) if isinstance(error, Mapping) else ""


def _context_code(body: object) -> str | None:
    error: Any = body.get("error") if isinstance(body, Mapping) else None
    text = str(error.get("message", "")) if isinstance(error, Mapping) else ""
    return "context_length_exceeded" if "prompt is too long" in text else None


def _timeout(call: ProviderCall) -> httpx2.Timeout:
    """Only the connection's: how long an answer may take, the gateway itself decides."""
    return httpx2.Timeout(None, connect=call.connect_timeout_s)
