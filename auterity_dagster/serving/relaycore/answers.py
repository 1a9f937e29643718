"""Send answers: the headers that say how a request was routed, whole answers, and streams."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from auterity_dagster.relaycore.answer import Answer, AnswerStream
from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.serving.relaycore.limit_headers import limit_headers
from auterity_dagster.serving.relaycore.wire import Asked, Wire
from auterity_dagster.serving.relaycore.wire_errors import WireError

HEARTBEAT_S = 15.0
TOGETHER_BYTES = 16 * 1024
"""Events leave together up to here: more would lie a second time in the buffer of a caller who reads slowly."""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


async def send_error(send: Send, error: WireError) -> None:
    """Send an error instead of an answer."""
    await _send(send, error.status, list(error.headers), error.body)


async def send_whole(send: Send, answer: Answer, body: bytes) -> None:
    """Send a whole answer."""
    headers = _headers(answer)
    headers.append((b"content-type", b"application/json"))
    cost_nusd = answer.attempt.cost_nusd
    if cost_nusd is not None:
        headers.append((b"x-auterity-cost-nusd", str(cost_nusd).encode()))
    await _send(send, 200, headers, body)


async def send_stream(send: Send, wire: Wire, asked: Asked, answer: Answer, relay: AnswerStream) -> None:
    """Send a stream as the wire writes it; events that are there together leave together."""
    headers = [*_headers(answer), (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    ready, size = list[bytes](), 0
    async for data in wire.events(asked, answer, relay.frames(heartbeat_s=HEARTBEAT_S)):
        ready.append(data)
        size += len(data)
        if size >= TOGETHER_BYTES or not relay.has_content_ready:
            await send({"type": "http.response.body", "body": b"".join(ready), "more_body": True})
            ready.clear()
            size = 0
    await send({"type": "http.response.body", "body": b"".join(ready), "more_body": False})


async def send_plain(send: Send, headers: Mapping[str, str], body: bytes) -> None:
    """Send JSON that no deployment answered for."""
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await _send(send, 200, [*encoded, (b"content-type", b"application/json")], body)


def accounting(answer: Answer) -> dict[str, object]:
    """Return what a stream's last event says as `x_auterity`: its cost stands in no header."""
    attempt = answer.attempt
    told = {
        "cost_nusd": attempt.cost_nusd,
        "attempts": answer.attempts,
        "deployment": attempt.step.deployment.id,
        "request_id": str(attempt.request.id),
    }
    return {**told, "budget_stop": True} if attempt.is_budget_stop else told


def _headers(answer: Answer) -> Headers:
    attempt = answer.attempt
    step, route = attempt.step, attempt.route
    values: dict[str, object] = {
        "x-request-id": attempt.request.id,
        "request-id": attempt.request.id,
        "x-auterity-policy": f"{route.policy_name}@{route.policy_digest}",
        "x-auterity-rule": route.rule,
        "x-auterity-deployment": step.deployment.id,
        "x-auterity-model": step.deployment.model,
        "x-auterity-attempts": answer.attempts,
        "x-auterity-max-tokens-granted": step.max_tokens,
    }
    if answer.cache is not None:
        values["x-auterity-cache"] = answer.cache
    if isinstance(attempt, Hit) and attempt.saved_nusd is not None:
        values["x-auterity-saved-nusd"] = attempt.saved_nusd
    if attempt.budget_left_nusd is not None:
        values["x-auterity-budget-left-nusd"] = attempt.budget_left_nusd
    if step.is_degraded:
        values["x-auterity-degraded"] = "quality"
    if attempt.dropped:
        values["x-auterity-dropped-params"] = ",".join(attempt.dropped)
    headers = [(name.encode(), str(value).encode()) for name, value in values.items()]
    if answer.admission is not None:
        headers += limit_headers(answer.admission.tightest)
    return headers


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
