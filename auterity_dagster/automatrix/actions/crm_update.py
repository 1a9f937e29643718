"""`crm_update`: write a lead, an activity, an appointment or a note into the dealership's CRM, once."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from auterity_dagster.automatrix.actions.http_request import status_error
from auterity_dagster.automatrix.actions.once import effect_key, refused, unknown
from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.adf_document import adf_document
from auterity_dagster.automatrix.connection import (
    Connection,
    ConnectionCall,
    ConnectionFailed,
    Connections,
    CrmAdfSettings,
    CrmHttpSettings,
)
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import CrmUpdateInputs
from auterity_dagster.automatrix.outputs import CrmUpdateOutput, written
from auterity_dagster.automatrix.ports import (
    Effect,
    EffectRecord,
    EffectResolved,
    EffectState,
    Message,
    Messenger,
    MessengerFailed,
)

QUESTION = "Did this reach the CRM?"


@dataclass(frozen=True, slots=True)
class CrmUpdate:
    """Over HTTP, or as ADF by e-mail to the address that the connection names."""

    connections: Connections
    messenger: Messenger

    def effect(self, context: StepContext, inputs: CrmUpdateInputs) -> Effect | None:
        digest = sha256(json.dumps(inputs.fields, sort_keys=True).encode()).hexdigest()
        request = {"connection": inputs.connection, "operation": inputs.operation, "fields_sha256": digest}
        return Effect(effect_key(context), "crm_update", request)

    def perform(self, context: StepContext, inputs: CrmUpdateInputs, record: EffectRecord | None) -> Outcome:
        assert record is not None
        connection = self.connections.find(context.snapshot.claim.organization_id, inputs.connection)
        key = effect_key(context)
        if record.state is EffectState.CONFIRMED:
            return _done(context, key, record.provider_ref)
        if record.state is EffectState.FAILED:
            return NotDone(StepError("invalid_input", "the CRM refused this before"))
        is_open = record.state is EffectState.UNKNOWN or not record.is_new
        match connection:
            case Connection(settings=CrmHttpSettings()):
                if is_open and not connection.repeats_safely:
                    return unknown(context, key, "a worker died while it was writing", question=QUESTION)
                return self._call(context, inputs, connection, key)
            case Connection(settings=CrmAdfSettings() as settings):
                return self._mail(context, inputs, settings, key, is_open=is_open)
            case _:
                error = StepError("invalid_input", f"there is no connection {inputs.connection!r} to a CRM")
                return refused(key, error)

    def _call(self, context: StepContext, inputs: CrmUpdateInputs, connection: Connection, key: str) -> Outcome:
        call = ConnectionCall(
            method="POST",
            path=f"/{inputs.operation}",
            body=json.dumps({"operation": inputs.operation, "fields": inputs.fields}, ensure_ascii=False).encode(),
            timeout_s=context.timeout_s,
            idempotency_key=sha256(key.encode()).hexdigest(),
        )
        try:
            answer = self.connections.call(context.snapshot.claim.organization_id, connection, call)
        except ConnectionFailed as error:
            if not error.is_unknown:
                return refused(key, StepError(error.code, error.message))
            if connection.repeats_safely:
                return NotDone(StepError(error.code, error.message))
            return unknown(context, key, error.message, question=QUESTION)
        if 200 <= answer.status < 300:
            return _done(context, key, _external_id(answer.body))
        if answer.status >= 500 and not connection.repeats_safely:
            return unknown(context, key, f"the CRM answered {answer.status}", question=QUESTION)
        error = status_error(answer.status)
        if answer.status >= 500:
            return NotDone(error, retry_after_s=answer.retry_after_s)
        if answer.status == 409:
            error = StepError("conflict", "the CRM has another record in the way")
        return refused(key, error, retry_after_s=answer.retry_after_s)

    def _mail(
        self, context: StepContext, inputs: CrmUpdateInputs, settings: CrmAdfSettings, key: str, *, is_open: bool
    ) -> Outcome:
        message = Message(
            organization_id=context.snapshot.claim.organization_id,
            dealership_id=context.snapshot.dealership_id,
            channel="email",
            address=settings.address,
            subject=f"ADF {inputs.operation}",
            text=adf_document(
                inputs.fields,
                key=key,
                operation=inputs.operation,
                dealership=str(cast("dict[str, object]", context.scope["dealership"])["name"]),
                requested_at=context.now,
            ),
            purpose="crm_update",
        )
        if is_open:
            earlier = self.messenger.lookup(message, key)
            if earlier is not None:
                return _done(context, key, earlier.message_id)
            if not self.messenger.repeats_safely(message):
                return unknown(context, key, "a worker died while it was sending", question=QUESTION)
        try:
            receipt = self.messenger.send(message, key)
        except MessengerFailed as error:
            if error.is_unknown:
                return unknown(context, key, error.message, question=QUESTION)
            return refused(key, StepError(error.code, error.message))
        return _done(context, key, receipt.message_id)


def _external_id(body: bytes) -> str | None:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = cast("dict[str, object]", document).get("external_id") if isinstance(document, dict) else None
    return str(found)[:200] if isinstance(found, str | int) else None


def _done(context: StepContext, key: str, external_id: str | None) -> Done:
    resolved = EffectResolved(key, EffectState.CONFIRMED, external_id)
    return Done(StepSucceeded(context.path, written(CrmUpdateOutput(external_id=external_id))), entries=(resolved,))
