"""What a scope serves: one guarded update and one ledger row, together or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict
from auterity_dagster.storage.tables.specialisation import ServingStateRow, SwitchLedgerRow


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of what a scope serves, from the digest that the decider saw to the new one."""

    organization_id: UUID
    scope: str
    from_digest: str | None
    to_digest: str
    weight_percent: int
    state: str
    reason: str
    evidence_ids: Sequence[str]
    actor: str
    idempotency_key: str


def current_digest(session: Session, scope: str) -> str | None:
    """Return the artefact that a scope serves, or None if it serves no artefact of its own yet."""
    return session.scalar(select(ServingStateRow.current_digest).where(ServingStateRow.scope == scope))


def switch(session: Session, change: Switch) -> bool:
    """Serve `to_digest` from now on if the scope still serves `from_digest`; False if this very change was made before.

    Raises `Conflict` when another change won. The caller's transaction holds both the state and its ledger row.
    """
    known = select(SwitchLedgerRow.sequence).where(SwitchLedgerRow.idempotency_key == change.idempotency_key)
    if session.scalar(known) is not None:
        return False
    sequence = _move(session, change)
    if sequence is None:
        raise Conflict(f"{change.scope} no longer serves {change.from_digest}: another switch won")
    session.add(
        SwitchLedgerRow(
            organization_id=change.organization_id,
            scope=change.scope,
            sequence=sequence,
            from_digest=change.from_digest,
            to_digest=change.to_digest,
            weight_percent=change.weight_percent,
            state=change.state,
            reason=change.reason,
            evidence_ids=list(change.evidence_ids),
            actor=change.actor,
            idempotency_key=change.idempotency_key,
        )
    )
    session.flush()
    return True


def _move(session: Session, change: Switch) -> int | None:
    if change.from_digest is None:
        return session.scalar(
            insert(ServingStateRow)
            .values(
                organization_id=change.organization_id,
                scope=change.scope,
                current_digest=change.to_digest,
                sequence=1,
            )
            .on_conflict_do_nothing()
            .returning(ServingStateRow.sequence)
        )
    return session.scalar(
        update(ServingStateRow)
        .where(ServingStateRow.scope == change.scope, ServingStateRow.current_digest == change.from_digest)
        .values(
            current_digest=change.to_digest,
            previous_digest=ServingStateRow.current_digest,
            sequence=ServingStateRow.sequence + 1,
        )
        .returning(ServingStateRow.sequence)
    )
