"""Errors as each wire writes them: the status, a stable code, and whether a client should try again."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast
from uuid import UUID

import orjson

from auterity_dagster.errors import AuterityError, Invalid, ProviderFailed, RateLimited
from auterity_dagster.relaycore.rate_limit import Standing
from auterity_dagster.serving.http_errors import status_of
from auterity_dagster.serving.relaycore.limit_headers import limit_headers

_OF_CAUSE: Mapping[str, tuple[int, str]] = {
    "connection": (502, "upstream_error"),
    "timeout": (504, "upstream_timeout"),
    "rate_limit": (429, "upstream_rate_limited"),
    "overloaded": (503, "overloaded"),
    "server_error": (502, "upstream_error"),
    "malformed": (502, "provider_malformed"),
    "credential": (502, "credentials_exhausted"),
    "rejected": (400, "invalid_request"),
    "cancelled": (503, "draining"),
}
_TYPE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_MESSAGE_OF_REJECTED = "The provider refused the request as invalid."
_MESSAGE_OF_INTERRUPTED = "The provider broke the stream off; what came so far is all there is."


class WireError(NamedTuple):
    """An answer that is an error."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def openai_error(error: AuterityError, *, request_id: UUID | None) -> WireError:
    """Return what a caller of the OpenAI wire gets."""
    status, document = _status_and_document(error)
    document["request_id"] = _text(request_id)
    return _answer(error, status, {"error": document}, request_id=request_id)


def anthropic_error(error: AuterityError, *, request_id: UUID | None) -> WireError:
    """Return what a caller of the Anthropic wire gets: beside type and message it finds our code and details."""
    status, document = _status_and_document(error)
    body = {"type": "error", "error": document, "request_id": _text(request_id)}
    return _answer(error, status, body, request_id=request_id)


def interruption(failure: ProviderFailed, *, request_id: UUID) -> dict[str, Any]:
    """Return the error event of a stream on the OpenAI wire that breaks off after its first words."""
    return {"error": {**_interrupted(failure), "param": None, "request_id": str(request_id)}}


def anthropic_interruption(failure: ProviderFailed, *, request_id: UUID) -> dict[str, Any]:
    """Return the data of the error event of a stream on the Anthropic wire."""
    return {"type": "error", "error": _interrupted(failure), "request_id": str(request_id)}


def _interrupted(failure: ProviderFailed) -> dict[str, Any]:
    is_ours = failure.code != ProviderFailed.code
    return {
        "message": failure.message if is_ours else _MESSAGE_OF_INTERRUPTED,
        "type": "api_error",
        "code": failure.code if is_ours else "stream_interrupted",
    }


def _status_and_document(error: AuterityError) -> tuple[int, dict[str, Any]]:
    status, code, message = _said(error)
    return status, {
        "message": message,
        "type": _TYPE_OF_STATUS.get(status, "api_error" if status >= 500 else "invalid_request_error"),
        "code": code,
        "param": error.details.get("field"),
        "details": {name: value for name, value in error.details.items() if name not in ("field", "standings")},
    }


def _answer(error: AuterityError, status: int, body: Mapping[str, Any], *, request_id: UUID | None) -> WireError:
    """SDKs retry some statuses by themselves, so `x-should-retry` is always said."""
    retry = status == 429 or status >= 500 or error.code == "idempotency_running"
    headers = [
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"true" if retry else b"false"),
    ]
    if request_id is not None:
        headers += [(b"x-request-id", str(request_id).encode()), (b"request-id", str(request_id).encode())]
    asked_s = error.retry_after_s if isinstance(error, ProviderFailed) else error.details.get("retry_after_s")
    if retry or asked_s is not None:
        headers.append((b"retry-after", str(math.ceil(cast(float, asked_s or 1))).encode()))
    if isinstance(error, RateLimited):
        headers += limit_headers(cast(Iterable[Standing], error.details.get("standings", ())))
    return WireError(status, tuple(headers), orjson.dumps(body, default=str))


def _text(request_id: UUID | None) -> str | None:
    return None if request_id is None else str(request_id)


def _said(error: AuterityError) -> tuple[int, str, str]:
    if isinstance(error, ProviderFailed):
        # A model that its provider does not know is the configuration's mistake, not the caller's.
        cause = "server_error" if error.status == 404 else error.cause
        status, code = _OF_CAUSE[cause]
        if cause == "rejected":
            return status, error.code if error.code != "upstream_error" else code, _MESSAGE_OF_REJECTED
        return status, code, error.message
    status = status_of(error)
    return 400 if isinstance(error, Invalid) and error.code == "invalid_request" else status, error.code, error.message
