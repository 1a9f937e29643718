"""The one place that knows HTTP statuses: errors become RFC 9457 problem documents, and never echo what was sent."""

import traceback
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from auterity_dagster.errors import (
    AuterityError,
    BudgetExceeded,
    ConfigurationInvalid,
    Conflict,
    Invalid,
    LeaseLost,
    NoCandidate,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PriceUnknown,
    ProviderFailed,
    RateLimited,
    TooLarge,
    Unavailable,
)

PROBLEM = "application/problem+json"
_NAMED_FIELDS = 10

STATUS_OF_KIND: Mapping[type[AuterityError], int] = {
    Invalid: 422,
    NotAuthenticated: 401,
    BudgetExceeded: 402,
    NotPermitted: 403,
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    TooLarge: 413,
    PriceUnknown: 422,
    RateLimited: 429,
    ConfigurationInvalid: 500,
    ProviderFailed: 502,
    NoCandidate: 503,
    Unavailable: 503,
}

STATUS_OF_CODE: Mapping[str, int] = {
    "unsupported_parameter": 400,
    "context_length_exceeded": 400,
    "invalid_json": 400,
    "max_cost_exceeded": 402,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "unsupported_media_type": 415,
    "idempotency_mismatch": 422,
    "upstream_timeout": 504,
    "deadline_exceeded": 504,
}
"""Codes whose status differs from their kind's."""

_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_log = structlog.get_logger(__name__)


def status_of(error: AuterityError) -> int:
    """Return the status of an error: its code's if that has one of its own, else its kind's."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next((STATUS_OF_KIND[kind] for kind in type(error).__mro__ if kind in STATUS_OF_KIND), 500)


def problem(
    status: int, *, code: str, detail: str, members: Mapping[str, Any] | None = None, headers: Mapping[str, str] = {}
) -> JSONResponse:
    """Return a problem document; `code` is stable for programs, `detail` is for people."""
    document = {**(members or {}), "type": "about:blank", "title": code, "status": status, "code": code}
    return JSONResponse({**document, "detail": detail}, status_code=status, media_type=PROBLEM, headers=dict(headers))


def problem_of(error: AuterityError) -> JSONResponse:
    """Return the problem document of one of our own errors."""
    status = status_of(error)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    if "retry_after_s" in error.details:
        headers["retry-after"] = str(error.details["retry_after_s"])
    members = {name: _plain(value) for name, value in error.details.items()}
    return problem(status, code=error.code, detail=error.message, members=members, headers=headers)


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of this app a problem document."""
    app.add_exception_handler(AuterityError, _our_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(Exception, _unexpected_error)


async def _our_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AuterityError)
    return problem_of(error)


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    """Name each field and what is wrong with it; the value stays out: it may be a password."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(part) for part in found["loc"][1:]) or found["loc"][0], "message": _rule(found)}
        for found in error.errors()
    ]
    named = ", ".join(str(found["field"]) for found in errors[:_NAMED_FIELDS])
    if len(errors) > _NAMED_FIELDS:
        named += f" and {len(errors) - _NAMED_FIELDS} more"
    return problem(422, code="invalid_request", detail=f"not valid: {named}", members={"errors": errors})


def _rule(found: Mapping[str, Any]) -> str:
    # Messages of our own validators and of the JSON parser may quote the input: only their kind is told.
    quoting = {"value_error", "assertion_error", "json_invalid", "enum", "literal_error"}
    return str(found["type"]) if found["type"] in quoting else str(found["msg"])


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _CODE_OF_STATUS.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal_error")
    detail = code.replace("_", " ")
    return problem(error.status_code, code=code, detail=detail, headers=error.headers or {})


async def _unstorable(request: Request, _error: Exception) -> JSONResponse:
    """PostgreSQL's own limits: a text holds no NUL character, a number and a time have a range."""
    _log.warning("value_unstorable", method=request.method)
    detail = "a value cannot be stored: a text with a NUL character, or a number or time out of range"
    return problem(422, code="unstorable_value", detail=detail)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    # The message stays out of the log: a driver's repeats the values of the statement.
    where = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("request_failed", method=request.method, error=type(error).__name__, at=f"{where.name}:{where.lineno}")
    return problem(500, code="internal_error", detail="something went wrong here; it has been recorded")


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)
