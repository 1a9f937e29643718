"""Errors as the OpenAI wire writes them: the status, a stable code, and whether a client should try again."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import orjson

from auterity_dagster.errors import AuterityError, Invalid, ProviderFailed
from auterity_dagster.serving.http_errors import status_of

_OF_CAUSE: Mapping[str, tuple[int, str]] = {
    "connection": (502, "upstream_error"),
    "timeout": (504, "upstream_timeout"),
    "rate_limit": (429, "upstream_rate_limited"),
    "overloaded": (503, "overloaded"),
    "server_error": (502, "upstream_error"),
    "malformed": (502, "provider_malformed"),
    "credential": (502, "credentials_exhausted"),
    "rejected": (400, "invalid_request"),
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


class WireError(NamedTuple):
    """An answer that is an error."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def wire_error(error: AuterityError, *, request_id: UUID | None) -> WireError:
    """Return what the caller gets. SDKs retry some statuses by themselves, so `x-should-retry` is always said."""
    status, code, message = _said(error)
    retry = status == 429 or status >= 500
    headers = [
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"true" if retry else b"false"),
    ]
    if request_id is not None:
        headers.append((b"x-request-id", str(request_id).encode()))
    retry_after = error.details.get("retry_after_s", 1 if retry else None)
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    document = {
        "message": message,
        "type": _TYPE_OF_STATUS.get(status, "api_error" if status >= 500 else "invalid_request_error"),
        "code": code,
        "param": error.details.get("field"),
        "request_id": str(request_id) if request_id is not None else None,
        "details": {name: value for name, value in error.details.items() if name != "field"},
    }
    return WireError(status, tuple(headers), orjson.dumps({"error": document}, default=str))


def _said(error: AuterityError) -> tuple[int, str, str]:
    if isinstance(error, ProviderFailed):
        status, code = _OF_CAUSE[error.cause]
        if error.cause == "rejected":
            return status, error.code if error.code != "upstream_error" else code, _MESSAGE_OF_REJECTED
        return status, code, error.message
    status = status_of(error)
    return 400 if isinstance(error, Invalid) and error.code == "invalid_request" else status, error.code, error.message
