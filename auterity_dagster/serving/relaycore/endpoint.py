"""One wire's endpoint as a bare ASGI callable: no injection, no response model, the body parsed once.

The framework's own route costs about as much CPU again as everything the gateway itself does with a request.
"""

import asyncio
import traceback
from functools import partial
from uuid import UUID

import structlog
from starlette.types import Receive, Scope, Send

from auterity_dagster.errors import AuterityError, Unavailable
from auterity_dagster.relaycore.answer import Answer, AnswerStream
from auterity_dagster.serving.relaycore.answers import send_error, send_stream, send_whole
from auterity_dagster.serving.relaycore.gateway_request import read_request
from auterity_dagster.serving.relaycore.metrics import OTHER
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.serving.relaycore.wire import Asked, Wire

_log = structlog.get_logger(__name__)


class Endpoint:
    """Authenticates, reads, asks the gateway, sends; what is particular to callers is in their `wire`."""

    takes_claims = True
    """Whether an Idempotency-Key means something: only where money is spent."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["state"]["relaycore"]
        request_id: UUID | None = None
        try:
            asked = await read_request(self._wire, state, scope, receive)
            request_id, claim = asked.request.id, asked.request.claim
            if claim is None or not self.takes_claims:
                await self._answer(state, asked, receive, send)
            else:
                await state.answers.once(asked.request, claim, send, partial(self._answer, state, asked))
        except Exception as error:  # noqa: BLE001 - the route's outermost frame: a caller always gets an answer
            # What became a request is counted where it ends.
            if request_id is None and isinstance(error, AuterityError):
                state.metrics.requests.of(OTHER, OTHER, error.code).inc()
            await self._send_error(send, error, request_id=request_id)

    async def _answer(self, state: GatewayState, asked: Asked, receive: Receive, send: Send) -> bool:
        """Send the answer or the error; return whether all of it was sent, that is, no stream broke off."""
        try:
            return await self._ask(state, asked, receive, send)
        except Exception as error:  # noqa: BLE001 - likewise
            await self._send_error(send, error, request_id=asked.request.id)
        return True

    async def _ask(self, state: GatewayState, asked: Asked, receive: Receive, send: Send) -> bool:
        """Ask the gateway, whole or as a stream, and send what it gives."""
        if asked.request.is_stream:
            answer, relay = await state.gateway.stream(asked.request, asked.body)
            await self._relayed(receive, send, asked, answer, relay)
            return not relay.is_broken
        answer, given = await state.gateway.complete(asked.request, asked.body)
        await send_whole(send, answer, self._wire.whole(asked, answer, given))
        return True

    async def _send_error(self, send: Send, error: Exception, *, request_id: UUID | None) -> None:
        if not isinstance(error, AuterityError):
            # Frames and not values: a value may be the caller's text.
            where = traceback.format_tb(error.__traceback__)[-2:]
            _log.error("request_failed", error=type(error).__name__, where=where)
            error = Unavailable("Something went wrong here; it has been recorded.", code="internal_error")
        await send_error(send, self._wire.error(error, request_id=request_id))

    async def _relayed(self, receive: Receive, send: Send, asked: Asked, answer: Answer, relay: AnswerStream) -> None:
        """Send the stream until its end or until the caller leaves, whichever is first."""
        is_whole = False
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(send_stream(send, self._wire, asked, answer, relay))
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
