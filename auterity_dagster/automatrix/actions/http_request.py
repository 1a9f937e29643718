"""`http_request`: one call through a named connection; anything but a GET happens once."""

import json
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlencode

from pydantic import JsonValue

from auterity_dagster.automatrix.actions.once import effect_key, refused, unknown
from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.connection import (
    Connection,
    ConnectionAnswer,
    ConnectionCall,
    ConnectionFailed,
    Connections,
    HttpSettings,
)
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import HttpRequestInputs
from auterity_dagster.automatrix.outputs import HttpRequestOutput, written
from auterity_dagster.automatrix.ports import Effect, EffectRecord, EffectResolved, EffectState

QUESTION = "Did this request take effect?"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A GET is repeated at will. Another method carries `Idempotency-Key`: it is repeated only where that is heeded."""

    connections: Connections

    def effect(self, context: StepContext, inputs: HttpRequestInputs) -> Effect | None:
        if inputs.method == "GET":
            return None
        request = {
            "connection": inputs.connection,
            "method": inputs.method,
            "path": inputs.path,
            "body_sha256": sha256(_body(inputs) or b"").hexdigest(),
        }
        return Effect(effect_key(context), "http_request", request)

    def perform(self, context: StepContext, inputs: HttpRequestInputs, record: EffectRecord | None) -> Outcome:
        connection = self.connections.find(context.snapshot.claim.organization_id, inputs.connection)
        key = effect_key(context)
        if connection is None or not isinstance(connection.settings, HttpSettings):
            error = StepError("invalid_input", f"there is no connection {inputs.connection!r} of kind http")
            return refused(key, error) if record is not None and record.is_new else NotDone(error)
        if record is not None:
            if record.state is EffectState.CONFIRMED:
                return _done(context, HttpRequestOutput(status=int(record.provider_ref or 200), document=None))
            if record.state is EffectState.FAILED:
                return NotDone(StepError("invalid_input", "the service refused this request before"))
            is_open = record.state is EffectState.UNKNOWN or not record.is_new
            if is_open and not connection.repeats_safely:
                return unknown(context, key, "a worker died while it was calling", question=QUESTION)
        call = ConnectionCall(
            method=inputs.method,
            path=inputs.path + (f"?{urlencode(inputs.query)}" if inputs.query else ""),
            body=_body(inputs),
            timeout_s=context.timeout_s,
            idempotency_key=None if record is None else sha256(key.encode()).hexdigest(),
        )
        try:
            answer = self.connections.call(context.snapshot.claim.organization_id, connection, call)
        except ConnectionFailed as error:
            return _failed(context, key, error, has_effect=record is not None, connection=connection)
        return _answered(context, inputs, answer, key=key, has_effect=record is not None, connection=connection)


def _body(inputs: HttpRequestInputs) -> bytes | None:
    return None if inputs.body is None else json.dumps(inputs.body, ensure_ascii=False).encode()


def _failed(
    context: StepContext, key: str, error: ConnectionFailed, *, has_effect: bool, connection: Connection
) -> NotDone:
    step_error = StepError(error.code, error.message)
    if not has_effect or (error.is_unknown and connection.repeats_safely):
        return NotDone(step_error)
    if error.is_unknown:
        return unknown(context, key, error.message, question=QUESTION)
    return refused(key, step_error)


def _answered(
    context: StepContext,
    inputs: HttpRequestInputs,
    answer: ConnectionAnswer,
    *,
    key: str,
    has_effect: bool,
    connection: Connection,
) -> Outcome:
    is_expected = answer.status in inputs.expect if inputs.expect else 200 <= answer.status < 300
    if is_expected:
        resolved = EffectResolved(key, EffectState.CONFIRMED, str(answer.status))
        output = HttpRequestOutput(status=answer.status, document=_document(answer.body))
        return _done(context, output, entries=(resolved,) if has_effect else ())
    error = status_error(answer.status)
    if not has_effect:
        return NotDone(error, retry_after_s=answer.retry_after_s)
    if answer.status >= 500:
        # It failed inside, and nobody says after how much of its work.
        if connection.repeats_safely:
            return NotDone(error, retry_after_s=answer.retry_after_s)
        return unknown(context, key, error.message, question=QUESTION)
    return refused(key, error, retry_after_s=answer.retry_after_s)


def status_error(status: int) -> StepError:
    """Return the error that a status which was not expected means."""
    code = "rate_limited" if status == 429 else "provider_error" if status >= 500 else "invalid_input"
    return StepError(code, f"the service answered {status}")


def _document(body: bytes) -> JsonValue:
    try:
        document: JsonValue = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document


def _done(context: StepContext, output: HttpRequestOutput, entries: tuple[EffectResolved, ...] = ()) -> Done:
    return Done(StepSucceeded(context.path, written(output)), entries=entries)
