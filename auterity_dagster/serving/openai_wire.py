"""The OpenAI wire as a client: OpenAI itself, our model server, the sandbox. Bodies and frames pass as they are.

aiohttp and not the SDK: passing bytes on costs a tenth of the CPU, and nothing between us and the wire retries.
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, cast

import aiohttp
import orjson

from auterity_dagster.errors import Invalid, ProviderFailed
from auterity_dagster.relaycore.chat import ProviderAnswer, ProviderCall, StreamFrame, UsageReport
from auterity_dagster.relaycore.pricing import Usage

LINE_LIMIT_BYTES = 1024 * 1024
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024

TokenField = Literal["max_tokens", "max_completion_tokens"]


class OpenAIWireClient:
    """One provider on the OpenAI wire under one credential. `token_field` is what it calls the output limit."""

    def __init__(
        self, session: aiohttp.ClientSession, *, base_url: str, credential: str, token_field: TokenField
    ) -> None:
        self._session, self._token_field = session, token_field
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}

    async def complete(self, call: ProviderCall) -> ProviderAnswer:
        try:
            async with self._post(call, is_stream=False) as response:
                await _refuse_errors(response, call)
                text = await _limited(response, call)
                return read_answer(text, call, provider_request_id=response.headers.get("x-request-id"))
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamFrame]:
        try:
            async with self._post(call, is_stream=True) as response:
                await _refuse_errors(response, call)
                request_id = response.headers.get("x-request-id")
                async for data in _events(response, call):
                    yield read_frame(data, call, provider_request_id=request_id)
        except (aiohttp.ClientError, OSError) as error:
            raise connection_failed(call, error) from error

    def _post(self, call: ProviderCall, *, is_stream: bool) -> Any:
        body = {name: value for name, value in call.body.items() if name not in _REPLACED}
        body |= {"model": call.model, self._token_field: call.max_tokens}
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        timeout = aiohttp.ClientTimeout(total=None, connect=call.connect_timeout_s, sock_connect=call.connect_timeout_s)
        headers = self._headers
        if call.traceparent is not None:
            headers = {**headers, "traceparent": call.traceparent}
        return self._session.post(self._url, data=orjson.dumps(body), headers=headers, timeout=timeout)


_REPLACED = frozenset({"model", "max_tokens", "max_completion_tokens", "stream", "stream_options"})


def read_answer(text: bytes, call: ProviderCall, *, provider_request_id: str | None) -> ProviderAnswer:
    """Read a whole answer. Raises `ProviderFailed` where it is none."""
    body = _object(text, call)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise malformed(call, "an answer without choices")
    message: object = choices[0].get("message")
    said = cast(Mapping[str, object], message) if isinstance(message, dict) else {}
    return ProviderAnswer(
        body=text,
        report=read_usage(body.get("usage")),
        has_content=any(said.get(name) for name in ("content", "tool_calls", "refusal")),
        provider_request_id=provider_request_id or str(body.get("id")),
    )


def read_frame(data: bytes, call: ProviderCall, *, provider_request_id: str | None) -> StreamFrame:
    """Read one event of a stream. Raises `ProviderFailed` where it is an error or nonsense."""
    body = _object(data, call)
    if "error" in body:
        raise ProviderFailed(
            f"{call.deployment_id}: an error inside the stream",
            deployment=call.deployment_id,
            cause="server_error",
            is_billed=None,
        )
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise malformed(call, "an event without choices")
    report = read_usage(body.get("usage"))
    delta: Mapping[str, object] = {}
    finish: object = None
    if choices and isinstance(choices[0], dict):
        choice = cast(Mapping[str, object], choices[0])
        finish = choice.get("finish_reason")
        given = choice.get("delta")
        delta = cast(Mapping[str, object], given) if isinstance(given, dict) else {}
    return StreamFrame(
        data=data,
        has_content=any(delta.get(name) for name in ("content", "tool_calls", "refusal")),
        is_end=finish is not None,
        report=report,
        is_usage_only=not choices and report is not None,
        provider_request_id=provider_request_id,
    )


def read_usage(raw: object) -> UsageReport | None:
    """Read a usage report; absent is None, and an explicit zero is zero. Nonsense is a report without a usage."""
    if raw is None:
        return None
    try:
        report = cast(Mapping[str, Any], raw)
        details: Mapping[str, Any] = report.get("prompt_tokens_details") or {}
        return UsageReport(
            Usage(
                prompt_tokens=_tokens(report["prompt_tokens"]),
                completion_tokens=_tokens(report["completion_tokens"]),
                cache_read_tokens=_tokens(details.get("cached_tokens") or 0),
                cache_write_5m_tokens=_tokens(details.get("cache_write_tokens") or 0),
            )
        )
    except (AttributeError, KeyError, TypeError, Invalid):
        return UsageReport(None)


def failed_with_status(call: ProviderCall, status: int, *, code: str | None, retry_after: str | None) -> ProviderFailed:
    """Return the failure that a provider's status stands for; its own words stay out: they may quote the prompt."""
    cause, is_billed = {
        401: ("credential", False),
        402: ("credential", False),
        403: ("credential", False),
        408: ("overloaded", False),
        429: ("rate_limit", False),
        503: ("overloaded", False),
        529: ("overloaded", False),
    }.get(status, ("server_error", None) if status >= 500 else ("rejected", False))
    return ProviderFailed(
        f"{call.deployment_id}: HTTP {status}",
        deployment=call.deployment_id,
        cause=cause,
        is_billed=is_billed,
        status=status,
        retry_after_s=_seconds(retry_after),
        code=code if cause == "rejected" else None,
    )


def malformed(call: ProviderCall, what: str) -> ProviderFailed:
    """Return the failure of an answer that cannot be read."""
    return ProviderFailed(
        f"{call.deployment_id}: {what}", deployment=call.deployment_id, cause="malformed", is_billed=None
    )


def connection_failed(call: ProviderCall, error: Exception) -> ProviderFailed:
    """Return the failure of a connection; only one that was never made is certainly not billed."""
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return ProviderFailed(
        f"{call.deployment_id}: {type(error).__name__}",
        deployment=call.deployment_id,
        cause="connection",
        is_billed=False if never_sent else None,
    )


async def _refuse_errors(response: aiohttp.ClientResponse, call: ProviderCall) -> None:
    if response.status == 200:
        return
    code = None
    if response.status == 400:
        code = _error_code(await response.content.read(65536))
    raise failed_with_status(call, response.status, code=code, retry_after=response.headers.get("retry-after"))


def _error_code(text: bytes) -> str | None:
    try:
        error = orjson.loads(text)["error"]
        return "context_length_exceeded" if error.get("code") == "context_length_exceeded" else None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


async def _limited(response: aiohttp.ClientResponse, call: ProviderCall) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > ANSWER_LIMIT_BYTES:
            raise malformed(call, "an answer beyond 16 MiB")
    return b"".join(parts)


async def _events(response: aiohttp.ClientResponse, call: ProviderCall) -> AsyncGenerator[bytes]:
    """Yield the data of each event up to `[DONE]`. Raises `ProviderFailed` for a stream that ends without it."""
    while True:
        try:
            line = await response.content.readline()
        except ValueError as error:
            raise malformed(call, "a line beyond 1 MiB") from error
        if not line:
            raise ProviderFailed(
                f"{call.deployment_id}: the stream ended without its end mark",
                deployment=call.deployment_id,
                cause="malformed",
                is_billed=None,
            )
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield data


def _object(text: bytes, call: ProviderCall) -> Mapping[str, object]:
    try:
        body: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise malformed(call, "no JSON") from error
    if not isinstance(body, dict):
        raise malformed(call, "no JSON object")
    return cast(Mapping[str, object], body)


def _tokens(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a token count is a whole number")
    return value


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.replace(".", "", 1).isdigit() else None
