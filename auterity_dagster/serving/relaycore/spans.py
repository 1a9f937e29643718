"""OpenTelemetry GenAI spans, made by hand from finished requests: one a request, and a child for each attempt.

By hand because a server instrumentation costs as much CPU as the rest of a request. Nothing a caller wrote is in them:
names and models are the configuration's.
"""

from collections.abc import Iterator

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from auterity_dagster.relaycore.catalog import Deployment
from auterity_dagster.relaycore.ports import AttemptRecord, RequestLog, RequestRecord
from auterity_dagster.relaycore.trace_context import RequestTrace

SERVICE = "auterity-relaycore"
SCOPE = InstrumentationScope("auterity.relaycore")
_PROVIDERS = {"served": "auterity.model_server", "sandbox": "auterity.sandbox"}
_OPERATIONS = {"chat": "chat", "embedding": "embeddings"}

Attributes = dict[str, str | int]


class TracedLog:
    """A log of finished requests that exports the sampled ones as spans on their way to another log."""

    def __init__(self, log: RequestLog, exporter: SpanExporter) -> None:
        self._log = log
        self._processor = BatchSpanProcessor(exporter)
        self._resource = Resource.create({"service.name": SERVICE})

    def add(self, record: RequestRecord) -> None:
        trace = record.request.trace
        if trace is not None and trace.is_sampled:
            for span in spans_of(record, trace, self._resource):
                self._processor.on_end(span)
        self._log.add(record)

    def close(self) -> None:
        """Export what waits; blocks for a few seconds at most."""
        self._processor.shutdown()


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return an exporter to a collector, `endpoint` being its base address as in `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)


def spans_of(record: RequestRecord, trace: RequestTrace, resource: Resource) -> Iterator[ReadableSpan]:
    """Yield the request's span and its attempts' spans."""
    began_ns = int(record.received_at.timestamp() * 1_000_000_000)
    yield ReadableSpan(
        name=_name(record, record.deployment_id),
        context=_context(trace, trace.span_id()),
        parent=_context(trace, trace.caller_span_id) if trace.caller_span_id is not None else None,
        resource=resource,
        attributes=_request_attributes(record),
        kind=SpanKind.SERVER,
        status=_status(record.outcome),
        start_time=began_ns,
        end_time=began_ns + _ns(record.latency_ms),
        instrumentation_scope=SCOPE,
    )
    for number, attempt in enumerate(record.attempts, start=1):
        attempt_began_ns = began_ns + _ns(attempt.began_ms)
        yield ReadableSpan(
            name=_name(record, attempt.deployment_id),
            context=_context(trace, trace.span_id(number)),
            parent=_context(trace, trace.span_id()),
            resource=resource,
            attributes=_attempt_attributes(record, attempt),
            kind=SpanKind.CLIENT,
            status=_status(attempt.cause),
            start_time=attempt_began_ns,
            end_time=attempt_began_ns + _ns(attempt.latency_ms),
            instrumentation_scope=SCOPE,
        )


def _request_attributes(record: RequestRecord) -> Attributes:
    attributes = _models(record, record.deployment_id) | {
        "auterity.request_id": str(record.request.id),
        "auterity.attempts": len(record.attempts),
        "auterity.cost_nusd": record.cost_nusd,
    }
    if record.route is not None:
        attributes |= {"auterity.rule": record.route.rule, "auterity.policy": record.route.policy_digest}
    if record.usage is not None:
        attributes["gen_ai.usage.input_tokens"] = record.usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = record.usage.completion_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = record.usage.cache_read_tokens
    if record.outcome != "ok":
        attributes["error.type"] = record.outcome
    return attributes


def _attempt_attributes(record: RequestRecord, attempt: AttemptRecord) -> Attributes:
    attributes = _models(record, attempt.deployment_id)
    if attempt.cause != "ok":
        attributes["error.type"] = attempt.cause
    return attributes


def _models(record: RequestRecord, deployment_id: str | None) -> Attributes:
    """The operation and, where a deployment was called, its provider and model as the configuration names them."""
    attributes: Attributes = {"gen_ai.operation.name": _OPERATIONS[record.request.kind]}
    deployment = _deployment(record, deployment_id)
    if deployment is not None:
        attributes |= {
            "gen_ai.provider.name": _PROVIDERS.get(deployment.provider, deployment.provider),
            "gen_ai.request.model": deployment.model,
            "auterity.deployment": deployment.id,
        }
    return attributes


def _name(record: RequestRecord, deployment_id: str | None) -> str:
    deployment = _deployment(record, deployment_id)
    operation = _OPERATIONS[record.request.kind]
    return operation if deployment is None else f"{operation} {deployment.model}"


def _deployment(record: RequestRecord, deployment_id: str | None) -> Deployment | None:
    steps = record.route.steps if record.route is not None else ()
    return next((one.deployment for one in steps if one.deployment.id == deployment_id), None)


def _context(trace: RequestTrace, span_id: int) -> SpanContext:
    return SpanContext(trace.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _status(outcome: str) -> Status:
    return Status(StatusCode.OK if outcome == "ok" else StatusCode.ERROR)


def _ns(milliseconds: int) -> int:
    return milliseconds * 1_000_000
