"""`send_sms` and `send_email`: one message to one contact, at most once, by the ledger of effects."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import SendEmailInputs, SendSmsInputs
from auterity_dagster.automatrix.ports import (
    Channel,
    Contacts,
    Effect,
    EffectRecord,
    EffectResolved,
    EffectState,
    Message,
    Messenger,
    MessengerFailed,
    Receipt,
    TaskAssigned,
)

SendInputs = SendSmsInputs | SendEmailInputs


@dataclass(frozen=True, slots=True)
class Send:
    """Sends over one channel. Whom it reaches is looked up from the contact's id, never read from a text."""

    channel: Channel
    messenger: Messenger
    contacts: Contacts

    def effect(self, context: StepContext, inputs: SendInputs) -> Effect | None:
        assert context.idempotency_key is not None, "publication refuses a send without a key"
        return Effect(
            key=context.idempotency_key,
            kind=f"send_{self.channel}",
            request={
                "contact_id": str(inputs.contact_id),
                "purpose": inputs.purpose,
                "text_sha256": sha256(_text(inputs).encode()).hexdigest(),
            },
        )

    def perform(self, context: StepContext, inputs: SendInputs, record: EffectRecord | None) -> Outcome:
        """Send, or find out what an earlier worker did: it may have died between the call and its record."""
        assert record is not None
        assert context.idempotency_key is not None
        key = context.idempotency_key
        if record.state is EffectState.CONFIRMED:
            return _sent(context, self.channel, key, Receipt(record.provider_ref or ""))
        if record.state is EffectState.FAILED:
            return NotDone(StepError("invalid_input", "the messenger refused this message before"))
        if not record.is_new:
            earlier = self.messenger.lookup(key)
            if earlier is not None:
                return _sent(context, self.channel, key, earlier)
            if record.state is EffectState.UNKNOWN or not self.messenger.repeats_safely:
                return _unknown(
                    context, key, "a worker died while it was sending: nobody knows whether the message left"
                )
        address = self.contacts.address(context.snapshot.claim.organization_id, inputs.contact_id, self.channel)
        if address is None or address.suppression is not None:
            reason = "no_address" if address is None else address.suppression
            output = {"outcome": "suppressed", "reason": reason, "message_id": None, "channel": self.channel}
            resolved = EffectResolved(key, EffectState.FAILED, None, StepError("suppressed", str(reason)))
            return Done(StepSucceeded(context.path, output), entries=(resolved,))
        message = Message(
            organization_id=context.snapshot.claim.organization_id,
            dealership_id=context.snapshot.dealership_id,
            channel=self.channel,
            address=address.value,
            subject=inputs.subject if isinstance(inputs, SendEmailInputs) else None,
            text=_text(inputs),
            purpose=inputs.purpose,
        )
        try:
            receipt = self.messenger.send(message, key)
        except MessengerFailed as error:
            if error.is_unknown:
                return _unknown(context, key, error.message)
            step_error = StepError(error.code, error.message)
            return NotDone(step_error, entries=(EffectResolved(key, EffectState.FAILED, None, step_error),))
        return _sent(context, self.channel, key, receipt)


def _text(inputs: SendInputs) -> str:
    return inputs.text if isinstance(inputs, SendEmailInputs) else inputs.body


def _sent(context: StepContext, channel: Channel, key: str, receipt: Receipt) -> Done:
    output = {"outcome": "sent", "reason": None, "message_id": receipt.message_id, "channel": channel}
    resolved = EffectResolved(key, EffectState.CONFIRMED, receipt.message_id)
    return Done(StepSucceeded(context.path, output), entries=(resolved,))


def _unknown(context: StepContext, key: str, why: str) -> NotDone:
    """Never again by itself: a person finds out whether it was sent."""
    error = StepError("unknown_effect", why)
    task = TaskAssigned(context.path, "manager", "Was this message sent?", context.now + timedelta(hours=1))
    return NotDone(error, entries=(EffectResolved(key, EffectState.UNKNOWN, None, error), task))
