"""`POST /v1/chat/completions` as a bare ASGI callable: no injection, no response model, the body parsed once.

The framework's own route costs about as much CPU again as everything the gateway itself does with a request.
"""

import asyncio
import traceback
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from starlette.types import Receive, Scope, Send

from auterity_dagster.errors import AuterityError, TooLarge, Unavailable
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.gateway import Answer
from auterity_dagster.relaycore.relay import Relay
from auterity_dagster.serving.authentication import presented_credential
from auterity_dagster.serving.relaycore.answers import send_error, send_stream, send_whole
from auterity_dagster.serving.relaycore.chat_request import Body, chat_request, read_body, wants_usage
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.serving.relaycore.wire_errors import wire_error

BODY_LIMIT_BYTES = 1024 * 1024

_log = structlog.get_logger(__name__)


class ChatCompletions:
    """Authenticates, reads, asks the gateway, sends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["state"]["relaycore"]
        request_id: UUID | None = None
        try:
            request, body = await read_request(state, scope, receive)
            request_id = request.id
            if request.is_stream:
                answer, relay = await state.gateway.stream(request, body)
                await _relayed(receive, send, answer, relay, wants_usage=wants_usage(body))
            else:
                answer, given = await state.gateway.complete(request, body)
                await send_whole(send, answer, given)
        except AuterityError as error:
            await send_error(send, wire_error(error, request_id=request_id))
        except Exception as error:  # noqa: BLE001 - the route's outermost frame: a caller always gets an answer
            # Frames and not values: a value may be the caller's text.
            _log.error(
                "request_failed", error=type(error).__name__, where=traceback.format_tb(error.__traceback__)[-2:]
            )
            unknown = Unavailable("Something went wrong here; it has been recorded.", code="internal_error")
            await send_error(send, wire_error(unknown, request_id=request_id))


async def read_request(state: GatewayState, scope: Scope, receive: Receive) -> tuple[ChatRequest, Body]:
    """Authenticate before the body is read, then read it. Raises our own errors only."""
    headers = _headers(scope)
    credential = presented_credential(headers.get("authorization"), x_api_key=headers.get("x-api-key"))
    principal = await state.authentication.api_key(credential)
    principal.require(Permission.GATEWAY_CALL)
    raw = await _read(headers, receive)
    body = read_body(raw)
    request = chat_request(body, headers=headers, principal=principal, size_bytes=len(raw))
    if request.caller.dealership_id is not None:
        await state.catalog.require_dealership(request.caller.organization_id, request.caller.dealership_id)
    return request, body


async def _relayed(receive: Receive, send: Send, answer: Answer, relay: Relay, *, wants_usage: bool) -> None:
    """Send the stream until its end or until the caller leaves, whichever is first."""
    is_whole = False
    try:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send_stream(send, answer, relay, wants_usage=wants_usage))
            watching = group.create_task(_cancel_when_gone(receive, sending))
            sending.add_done_callback(lambda _: watching.cancel())
        is_whole = not sending.cancelled()
    finally:
        if not is_whole:
            relay.leave()


async def _cancel_when_gone(receive: Receive, sending: "asyncio.Task[None]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()


async def _read(headers: Mapping[str, str], receive: Receive) -> bytes:
    declared = headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > BODY_LIMIT_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("The caller left before its request was complete.", code="client_gone")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT_BYTES:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _too_large() -> TooLarge:
    return TooLarge(f"A request may have {BODY_LIMIT_BYTES} bytes.")
