"""Failures of the gateway's plain routes, written as the wire of whoever asked writes errors."""

import traceback

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from auterity_dagster.errors import AuterityError, Invalid, NotFound, TooLarge, Unavailable
from auterity_dagster.serving.relaycore.wire_errors import anthropic_error, openai_error

ANTHROPIC_VERSION = "anthropic-version"
"""The header that callers on the Anthropic wire always send."""

_log = structlog.get_logger(__name__)


def install_wire_error_handlers(app: FastAPI) -> None:
    """Make every failure of this app an error that an SDK understands."""
    app.add_exception_handler(AuterityError, _our_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AuterityError)
    write = anthropic_error if ANTHROPIC_VERSION in request.headers else openai_error
    written = write(error, request_id=None)
    headers = {name.decode(): value.decode() for name, value in written.headers}
    return Response(written.body, status_code=written.status, headers=headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    """Name the first field; its value stays out: it is the caller's text."""
    assert isinstance(error, RequestValidationError)
    field = ".".join(str(part) for part in error.errors()[0]["loc"][1:]) or "body"
    return await _our_error(request, Invalid(f"{field} is not valid.", field=field))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known: dict[int, AuterityError] = {
        404: NotFound("There is no such route here."),
        405: Invalid("The route takes another method.", code="method_not_allowed"),
        413: TooLarge("The body is larger than this route takes."),
    }
    response = await _our_error(request, known.get(error.status_code, Invalid("The request cannot be read.")))
    response.headers.update(error.headers or {})
    return response


async def _unexpected_error(request: Request, error: Exception) -> Response:
    # The message stays out of the log: a driver's repeats the values of the statement.
    where = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("request_failed", method=request.method, error=type(error).__name__, at=f"{where.name}:{where.lineno}")
    return await _our_error(
        request, Unavailable("Something went wrong here; it has been recorded.", code="internal_error")
    )
