"""What the clients of both wires share: failures in our own kinds, bounded answers, and the data lines of a stream."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import aiohttp
import orjson

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.chat import ProviderCall, WireName
from auterity_dagster.serving.json_depth import is_deeper

LINE_LIMIT_BYTES = 1024 * 1024
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
ERROR_LIMIT_BYTES = 65536
DEPTH_LIMIT = 128
READ_BUFFER_BYTES = 16 * 1024
"""What is read ahead of a stream, twice: a thousand callers who read nothing must not fill the memory."""


def post(
    session: aiohttp.ClientSession,
    url: str,
    body: Mapping[str, object],
    headers: Mapping[str, str],
    call: ProviderCall,
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Ask. A redirection is not followed: it would carry the credential and the prompt to an address of its choice."""
    return session.post(url, data=orjson.dumps(body), headers=headers, timeout=_timeouts(call), allow_redirects=False)


def _timeouts(call: ProviderCall) -> aiohttp.ClientTimeout:
    """Only the connection's: how long an answer may take, the gateway itself decides."""
    return aiohttp.ClientTimeout(total=None, connect=call.connect_timeout_s, sock_connect=call.connect_timeout_s)


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
    }.get(status, ("rejected", False) if 400 <= status < 500 else ("server_error", None))
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
    return lost(call, what, cause="malformed")


def lost(call: ProviderCall, what: str, *, cause: str) -> ProviderFailed:
    """Return a failure after something was sent: nobody knows whether it is billed."""
    return ProviderFailed(f"{call.deployment_id}: {what}", deployment=call.deployment_id, cause=cause, is_billed=None)


def connection_failed(call: ProviderCall, error: Exception) -> ProviderFailed:
    """Return the failure of a connection; only one that was never made is certainly not billed."""
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return ProviderFailed(
        f"{call.deployment_id}: {type(error).__name__}",
        deployment=call.deployment_id,
        cause="connection",
        is_billed=False if never_sent else None,
    )


async def read_limited(response: aiohttp.ClientResponse, call: ProviderCall) -> bytes:
    """Return a whole answer's bytes. Raises `ProviderFailed` beyond 16 MiB."""
    # One buffer and not a list of parts: a part may be a single byte, and each part is an object of its own.
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_LIMIT_BYTES:
            raise malformed(call, "an answer beyond 16 MiB")
    return bytes(body)


async def data_lines(
    response: aiohttp.ClientResponse, call: ProviderCall, *, limit_bytes: int
) -> AsyncGenerator[bytes]:
    """Yield what stands behind `data:` in each line of a stream, to the end of the connection.

    Taken as it arrives and cut here: a stream's own `readline` costs as much as all else that happens to an event, and
    a longer line asks it for a larger buffer, which every stream would fill whose caller reads slowly. Raises
    `ProviderFailed` for a line beyond the limit.
    """
    begun = bytearray()
    async for part in response.content.iter_any():
        start = 0
        while (end := part.find(b"\n", start)) >= 0:
            # One by one and not all at once: what a slow caller leaves unread would be here twice.
            line = part[start:end]
            if begun:
                line, begun = bytes(begun + line), bytearray()
            if len(line) > limit_bytes:
                raise malformed(call, "a line beyond 1 MiB")
            start = end + 1
            if line.startswith(b"data:"):
                yield line[5:].strip()
        begun += part[start:]
        if len(begun) > limit_bytes:
            raise malformed(call, "a line beyond 1 MiB")
    if begun.startswith(b"data:"):
        yield bytes(begun[5:]).strip()


def json_object(text: bytes, call: ProviderCall) -> Mapping[str, Any]:
    """Parse an object, nested at most 128 deep: what is written again may not be deeper. Raises `ProviderFailed`."""
    try:
        body: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise malformed(call, "no JSON") from error
    if not isinstance(body, dict):
        raise malformed(call, "no JSON object")
    # Counting is a thousandth of looking, and hardly a frame has so many brackets.
    if text.count(b"{") + text.count(b"[") > DEPTH_LIMIT and is_deeper(cast(object, body), DEPTH_LIMIT):
        raise malformed(call, "JSON beyond a depth of 128")
    return cast(Mapping[str, Any], body)


async def refuse_errors(
    response: aiohttp.ClientResponse, call: ProviderCall, *, is_too_long: Callable[[Mapping[str, Any]], bool]
) -> None:
    """Raise `ProviderFailed` for a status that is no answer; `is_too_long` knows the wire's error of a long prompt."""
    if response.status == 200:
        return
    error = await error_of(response) if response.status == 400 else {}
    code = "context_length_exceeded" if is_too_long(error) else None
    raise failed_with_status(call, response.status, code=code, retry_after=response.headers.get("retry-after"))


def body_on(
    wire: WireName, call: ProviderCall, *, translated: Callable[[Mapping[str, object]], Mapping[str, object]]
) -> Mapping[str, object]:
    """Return the call's body as this wire writes it. Raises `ProviderFailed` for one that has no translation."""
    if call.wire == wire:
        return call.body
    try:
        return translated(call.body)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise failed_with_status(call, 400, code=None, retry_after=None) from error


async def error_of(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """Return the `error` of an error body of either wire; empty where there is none."""
    try:
        body: object = orjson.loads(await response.content.read(ERROR_LIMIT_BYTES))
    except orjson.JSONDecodeError:
        return {}
    error: object = cast(Mapping[str, object], body).get("error") if isinstance(body, dict) else None
    return cast(Mapping[str, Any], error) if isinstance(error, dict) else {}


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.replace(".", "", 1).isdigit() else None
