"""Messages that leave, or do not: decided and written in the transaction that intends them."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compliance.decision import Allow, DeferUntil, Suppress
from auterity_dagster.automatrix.ports import EffectResolved, EffectState, IntendedMessage, Permission
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.repositories.send_facts import contact_facts
from auterity_dagster.storage.tables.inbound import ContactRow
from auterity_dagster.storage.tables.messaging import MessageRow

_STATE_OF = {EffectState.CONFIRMED: "sent", EffectState.FAILED: "failed", EffectState.UNKNOWN: "unknown"}


def permit(session: Session, message: IntendedMessage, *, key: str, execution_id: UUID, now: datetime) -> Permission:
    """Decide about a message, and write it down with what was decided unless it only has to wait."""
    facts = contact_facts(session, message, key=key, now=now)
    decision = message.decide(facts)
    if not isinstance(decision, DeferUntil):
        _write(session, message, decision, key=key, execution_id=execution_id, now=now)
    return Permission(decision, facts.address)


def resolve(session: Session, resolved: EffectResolved) -> None:
    """Follow what became of the effect; a message that a rule stopped stays stopped."""
    session.execute(
        update(MessageRow)
        .where(
            MessageRow.organization_id == organization_of(session),
            MessageRow.effect_key == resolved.key,
            MessageRow.state != "suppressed",
        )
        .values(
            state=_STATE_OF[resolved.state],
            provider_ref=resolved.provider_ref,
            reason=None if resolved.error is None else resolved.error.code,
        )
    )


def _write(
    session: Session,
    message: IntendedMessage,
    decision: Allow | Suppress,
    *,
    key: str,
    execution_id: UUID,
    now: datetime,
) -> None:
    if session.get(ContactRow, (organization_of(session), message.contact_id)) is None:
        # The step says that there is nobody to write to.
        return
    is_allowed = isinstance(decision, Allow)
    changing = {
        "text": decision.text if is_allowed else message.draft.text,
        "state": "intended" if is_allowed else "suppressed",
        "reason": None if is_allowed else decision.reason,
        "rules": list(decision.rules),
    }
    session.execute(
        insert(MessageRow)
        .values(
            organization_id=organization_of(session),
            id=uuid4(),
            dealership_id=message.dealership_id,
            contact_id=message.contact_id,
            channel=message.draft.channel,
            direction="out",
            purpose=message.draft.purpose,
            author=message.draft.author,
            execution_id=execution_id,
            effect_key=key,
            created_at=now,
            **changing,
        )
        .on_conflict_do_update(index_elements=["organization_id", "effect_key"], set_=changing)
    )
