"""Traces: a caller's trace reaches the provider, spans are children of it, and hold nothing a caller wrote."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from fastapi import FastAPI, Request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.types import ASGIApp, Receive, Scope, Send

from auterity_dagster.relaycore.trace_context import request_trace
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, running_stack, until
from tests.fakes.served import served

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
ID = UUID("0198a8a0-0000-4000-8000-0000000000a1")
CANARY = "canary-8d1f0c"


class Recorder:
    """Keeps the headers of the calls that reach an app."""

    def __init__(self) -> None:
        self.headers: list[Mapping[str, str]] = []

    def around(self, app: ASGIApp) -> ASGIApp:
        async def recording(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].endswith("/chat/completions"):
                self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
            await app(scope, receive, send)

        return recording


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Span]]]:
    """An OpenTelemetry collector that keeps what it is sent."""
    spans: list[Span] = []
    app = FastAPI()

    @app.post("/v1/traces")
    async def take(request: Request) -> dict[str, str]:
        sent = ExportTraceServiceRequest.FromString(await request.body())
        spans.extend(span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans)
        return {}

    async with served(app) as url:
        yield url, spans


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def stack(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, recorder: Recorder
) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path, around_sandbox=recorder.around) as stack:
        yield stack


@pytest.mark.parametrize("body", [{}, {"stream": True}])
async def test_a_callers_trace_reaches_the_provider(stack: Stack, recorder: Recorder, body: dict[str, object]) -> None:
    await stack.ask(body, traceparent=TRACEPARENT)

    assert recorder.headers[0]["traceparent"] == TRACEPARENT


@pytest.mark.parametrize(
    "malformed",
    [
        f"00-{TRACE}-{PARENT}",
        f"01-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        CANARY,
    ],
)
async def test_a_malformed_trace_is_not_passed_on(stack: Stack, recorder: Recorder, malformed: str) -> None:
    answer = await stack.ask({}, traceparent=malformed)

    assert answer.status_code == 200
    assert "traceparent" not in recorder.headers[0]


async def test_spans_are_written_and_the_provider_is_a_child_of_its_attempt(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, recorder: Recorder
) -> None:
    async with (
        collector() as (url, spans),
        running_stack(
            database_urls, redis_url, tmp_path, around_sandbox=recorder.around, gateway_otlp_endpoint=url
        ) as stack,
    ):
        await stack.set_faults({"fault": "error_500", "model": "sandbox-small", "times": 1})
        await stack.ask(
            {"messages": [{"role": "user", "content": CANARY}]},
            traceparent=TRACEPARENT,
            **{"x-auterity-subject": CANARY},
        )
        await until(lambda: has(spans, 3), within_s=30)

    request, *attempts = sorted(spans, key=lambda span: (span.kind != Span.SPAN_KIND_SERVER, span.start_time_unix_nano))
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert [one.parent_span_id for one in attempts] == [request.span_id] * 2
    told = [headers["traceparent"] for headers in recorder.headers]
    assert told == [f"00-{TRACE}-{one.span_id.hex()}-01" for one in attempts]
    assert [said(one).get("error.type") for one in attempts] == ["server_error", None]
    assert said(request)["gen_ai.operation.name"] == "chat"
    assert said(request)["gen_ai.request.model"] == "sandbox-small"
    assert int(said(request)["gen_ai.usage.output_tokens"]) > 0
    assert CANARY not in str(spans)


async def test_a_trace_that_its_caller_does_not_sample_is_not_written(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with (
        collector() as (url, spans),
        running_stack(database_urls, redis_url, tmp_path, gateway_otlp_endpoint=url) as stack,
    ):
        await stack.ask({}, traceparent=f"00-{TRACE}-{PARENT}-00")
        await stack.ask({}, traceparent=TRACEPARENT)

    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert len(spans) == 2, "the sampled call's span and its attempt's, exported as the gateway ended"


def test_without_a_caller_the_share_decides_and_the_requests_id_is_the_traces() -> None:
    traced = request_trace(ID, None, recorded_share=1.0)
    untraced = request_trace(ID, None, recorded_share=0.0)

    assert traced is not None
    assert (traced.trace_id, traced.is_sampled) == (ID.int, True)
    assert untraced is not None
    assert not untraced.is_sampled
    assert request_trace(ID, None, recorded_share=None) is None


async def has(spans: Sequence[Span], count: int) -> bool:
    return len(spans) >= count


def said(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes}
