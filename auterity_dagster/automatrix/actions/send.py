"""`send_sms` and `send_email`: one message to one contact, inside the law, at most once by the ledger of effects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import cast

from auterity_dagster.automatrix.actions.once import refused, unknown
from auterity_dagster.automatrix.actions.outcome import Done, Later, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.compliance.decision import (
    Allow,
    Author,
    ContactFacts,
    DeferUntil,
    DraftMessage,
    SendDecision,
    Suppress,
    may_send,
)
from auterity_dagster.automatrix.compliance.rows import Channel, ComplianceRows
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import CUSTOMERS_EVENTS, SendEmailInputs, SendSmsInputs
from auterity_dagster.automatrix.outputs import SendOutput, written
from auterity_dagster.automatrix.ports import (
    Effect,
    EffectRecord,
    EffectResolved,
    EffectState,
    IntendedMessage,
    Message,
    Messenger,
    MessengerFailed,
    Receipt,
)
from auterity_dagster.automatrix.reply_checks import amounts
from auterity_dagster.automatrix.unsubscribe import UnsubscribeLinks
from auterity_dagster.automatrix.workflow import StepKind

QUESTION = "Was this message sent?"
INQUIRIES = CUSTOMERS_EVENTS | {"lead.received"}
"""Events that a customer's own message causes: it invites the answer."""

SendInputs = SendSmsInputs | SendEmailInputs


@dataclass(frozen=True, slots=True)
class Send:
    """Sends over one channel. Whom it reaches is looked up from the contact's id, never read from a text."""

    channel: Channel
    messenger: Messenger
    compliance: ComplianceRows
    unsubscribe: UnsubscribeLinks

    def effect(self, context: StepContext, inputs: SendInputs) -> Effect | None:
        assert context.idempotency_key is not None, "publication refuses a send without a key"
        text = _text(inputs)
        draft = DraftMessage(
            channel=self.channel,
            purpose=inputs.purpose,
            text=text,
            author=_author(context),
            policies=frozenset(context.snapshot.workflow.definition.policies),
            recall_match=inputs.recall_match,
        )
        return Effect(
            key=context.idempotency_key,
            kind=f"send_{self.channel}",
            request={
                "contact_id": str(inputs.contact_id),
                "purpose": inputs.purpose,
                "text_sha256": sha256(text.encode()).hexdigest(),
            },
            message=IntendedMessage(
                contact_id=inputs.contact_id,
                dealership_id=context.snapshot.dealership_id,
                draft=draft,
                amounts=tuple(nusd for _written, nusd in amounts(text)),
                inquired=_inquired(context, str(inputs.contact_id)),
                decide=lambda facts: self._decide(
                    context, replace(facts, unsubscribe_url=self._unsubscribe_url(context, inputs)), draft
                ),
            ),
        )

    def perform(self, context: StepContext, inputs: SendInputs, record: EffectRecord | None) -> Outcome:
        """Send, or find out what an earlier worker did: it may have died between the call and its record."""
        assert record is not None
        assert context.idempotency_key is not None
        key = context.idempotency_key
        if record.state is EffectState.CONFIRMED:
            return self._sent(context, key, Receipt(record.provider_ref or ""), ())
        if record.state is EffectState.FAILED:
            return NotDone(StepError("invalid_input", "the messenger refused this message before"))
        assert record.permission is not None
        decision = record.permission.decision
        message = self._message(context, inputs, decision, record.permission.address or "")
        if not record.is_new:
            earlier = self.messenger.lookup(message, key)
            if earlier is not None:
                return self._sent(context, key, earlier, decision.rules)
            if record.state is EffectState.UNKNOWN or not self.messenger.repeats_safely(message):
                why = "a worker died while it was sending: nobody knows whether the message left"
                return unknown(context, key, why, question=QUESTION)
        match decision:
            case Suppress():
                return self._suppressed(context, key, decision)
            case DeferUntil():
                return Later(decision.at, StepError("quiet_hours", f"{decision.detail} ({', '.join(decision.rules)})"))
            case Allow():
                return self._send(context, key, message, decision)

    def _send(self, context: StepContext, key: str, message: Message, decision: Allow) -> Outcome:
        try:
            receipt = self.messenger.send(message, key)
        except MessengerFailed as error:
            if error.is_unknown:
                return unknown(context, key, error.message, question=QUESTION)
            return refused(key, StepError(error.code, error.message))
        return self._sent(context, key, receipt, decision.rules)

    def _decide(self, context: StepContext, facts: ContactFacts, draft: DraftMessage) -> SendDecision:
        decision = may_send(facts, draft, rows=self.compliance, now=context.now)
        # A sandbox reaches nobody at any hour: waiting for morning would only hide what the workflow does.
        if isinstance(decision, DeferUntil) and not self.messenger.is_live(
            context.snapshot.claim.organization_id, self.channel
        ):
            return decision.allowed
        return decision

    def _message(self, context: StepContext, inputs: SendInputs, decision: SendDecision, address: str) -> Message:
        match decision:
            case Allow():
                text = decision.text
            case DeferUntil():
                text = decision.allowed.text
            case Suppress():
                text = _text(inputs)
        unsubscribe_url = self._unsubscribe_url(context, inputs)
        return Message(
            organization_id=context.snapshot.claim.organization_id,
            dealership_id=context.snapshot.dealership_id,
            channel=self.channel,
            address=address,
            subject=inputs.subject if isinstance(inputs, SendEmailInputs) else None,
            text=text,
            purpose=inputs.purpose,
            unsubscribe_url=unsubscribe_url if unsubscribe_url and unsubscribe_url in text else None,
        )

    def _unsubscribe_url(self, context: StepContext, inputs: SendInputs) -> str | None:
        if self.channel != "email":
            return None
        return self.unsubscribe.url(context.snapshot.claim.organization_id, inputs.contact_id)

    def _sent(self, context: StepContext, key: str, receipt: Receipt, rules: tuple[str, ...]) -> Done:
        output = SendOutput(
            outcome="sent", reason=None, detail=None, rules=rules, message_id=receipt.message_id, channel=self.channel
        )
        resolved = EffectResolved(key, EffectState.CONFIRMED, receipt.message_id)
        return Done(StepSucceeded(context.path, written(output)), entries=(resolved,))

    def _suppressed(self, context: StepContext, key: str, decision: Suppress) -> Done:
        output = SendOutput(
            outcome="suppressed",
            reason=decision.reason,
            detail=decision.detail,
            rules=decision.rules,
            message_id=None,
            channel=self.channel,
        )
        resolved = EffectResolved(key, EffectState.FAILED, None, StepError("suppressed", decision.detail))
        return Done(StepSucceeded(context.path, written(output)), entries=(resolved,))


def _text(inputs: SendInputs) -> str:
    return inputs.text if isinstance(inputs, SendEmailInputs) else inputs.body


def _author(context: StepContext) -> Author:
    """An AI wrote it wherever one is asked in the workflow, whoever approved it."""
    kinds = {compiled.step.kind for compiled in context.snapshot.workflow.every()}
    return "ai" if StepKind.AI_PROMPT in kinds else "template"


def _inquired(context: StepContext, contact_id: str) -> bool:
    event = cast("Mapping[str, object]", context.scope["event"])
    data = cast("Mapping[str, object]", event.get("data") or {})
    return event.get("type") in INQUIRIES and data.get("contact_id") == contact_id
