"""Send answers: the headers that say how a request was routed, whole answers, and streams."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.chat import ProviderAnswer, StreamFrame
from auterity_dagster.relaycore.gateway import Answer
from auterity_dagster.relaycore.relay import Relay
from auterity_dagster.serving.relaycore.wire_errors import WireError

HEARTBEAT_S = 15.0

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


async def send_error(send: Send, error: WireError) -> None:
    """Send an error instead of an answer."""
    await _send(send, error.status, list(error.headers), error.body)


async def send_whole(send: Send, answer: Answer, given: ProviderAnswer) -> None:
    """Send a whole answer as the provider wrote it."""
    headers = _headers(answer)
    headers.append((b"content-type", b"application/json"))
    cost_nusd = answer.attempt.cost_nusd
    if cost_nusd is not None:
        headers.append((b"x-auterity-cost-nusd", str(cost_nusd).encode()))
    if given.dropped:
        headers.append((b"x-auterity-dropped-params", ",".join(given.dropped).encode()))
    await _send(send, 200, headers, given.body)


async def send_stream(send: Send, answer: Answer, relay: Relay, *, wants_usage: bool) -> None:
    """Send a stream. The frame with the finish reason waits for the provider's end, and carries cost and attempts.

    A stream that breaks off ends with an error event and without `[DONE]`: a caller can tell it from a whole one.
    """
    headers = [*_headers(answer), (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async for data in _events(answer, relay, wants_usage=wants_usage):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except ProviderFailed:
        await send({"type": "http.response.body", "body": _interrupted(answer), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(answer: Answer, relay: Relay, *, wants_usage: bool) -> AsyncIterator[bytes]:
    waiting: list[StreamFrame] = []
    usage: StreamFrame | None = None
    async for frame in relay.frames(heartbeat_s=HEARTBEAT_S):
        if frame is None:
            yield b": waiting\n\n"
        elif frame.is_usage_only:
            usage = frame
        elif frame.is_end or waiting:
            waiting.append(frame)
        else:
            yield _event(frame.data)
    last = usage if wants_usage and usage is not None else waiting.pop() if waiting else None
    for frame in waiting:
        yield _event(frame.data)
    if last is not None:
        yield _event(_with_cost(last, answer, wants_usage=wants_usage))
    yield b"data: [DONE]\n\n"


def _with_cost(frame: StreamFrame, answer: Answer, *, wants_usage: bool) -> bytes:
    body = orjson.loads(frame.data)
    if not wants_usage:
        body.pop("usage", None)
    attempt = answer.attempt
    body["x_auterity"] = {
        "cost_nusd": attempt.cost_nusd,
        "attempts": answer.attempts,
        "deployment": attempt.step.deployment.id,
        "request_id": str(attempt.request.id),
    }
    return orjson.dumps(body)


def _interrupted(answer: Answer) -> bytes:
    error = {
        "message": "The provider broke the stream off; what came so far is all there is.",
        "type": "api_error",
        "code": "stream_interrupted",
        "param": None,
        "request_id": str(answer.attempt.request.id),
    }
    return _event(orjson.dumps({"error": error}))


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _headers(answer: Answer) -> Headers:
    attempt = answer.attempt
    step, route = attempt.step, attempt.route
    values: dict[str, object] = {
        "x-request-id": attempt.request.id,
        "x-auterity-policy": f"{route.policy_name}@{route.policy_digest}",
        "x-auterity-rule": route.rule,
        "x-auterity-deployment": step.deployment.id,
        "x-auterity-model": step.deployment.model,
        "x-auterity-attempts": answer.attempts,
        "x-auterity-max-tokens-granted": step.max_tokens,
    }
    if attempt.hold.budget_left_nusd is not None:
        values["x-auterity-budget-left-nusd"] = attempt.hold.budget_left_nusd
    if step.is_degraded:
        values["x-auterity-degraded"] = "quality"
    return [(name.encode(), str(value).encode()) for name, value in values.items()]


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
