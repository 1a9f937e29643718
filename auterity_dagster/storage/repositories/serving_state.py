"""What a scope serves: one guarded update, one ledger row and the deployments that routing reads, or none of them.

The rules are `neuroweaver.switching`; here is the compare-and-set, the door, and what the gateways see of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotPermitted
from auterity_dagster.neuroweaver.switching import LedgerRow, ServingPhase, ServingState, Switch, switched
from auterity_dagster.relaycore.catalog import Alias, ServedDeployment
from auterity_dagster.storage.repositories.gate_verdicts import latest_verdict, verdict_passes
from auterity_dagster.storage.repositories.routing import publish_deployment, withdraw_deployment
from auterity_dagster.storage.tables.specialisation import ReleasedArtefactRow, ServingStateRow, SwitchLedgerRow

_OPENED_BY_A_VERDICT = (ServingPhase.SHADOW, ServingPhase.CANARY, ServingPhase.CHAMPION)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger keeps beside a switch: whose scope, on which evidence, and the key that makes it happen once."""

    organization_id: UUID
    scope: str
    evidence_ids: Sequence[str]
    idempotency_key: str


def deployment_id(scope: str) -> str:
    """Return the name under which callers and policies know a scope's model."""
    return f"neuroweaver/{scope}"


def current_digest(session: Session, scope: str) -> str | None:
    """Return the artefact that a scope serves, or None if it serves no artefact of its own."""
    return session.scalar(select(ServingStateRow.current_digest).where(ServingStateRow.scope == scope))


def serving_state(session: Session, scope: str) -> ServingState:
    """Return what a scope serves; a scope that never switched serves the base route, at sequence 0."""
    row = session.scalar(select(ServingStateRow).where(ServingStateRow.scope == scope))
    taken_back = session.scalars(
        select(SwitchLedgerRow.from_digest).where(
            SwitchLedgerRow.scope == scope, SwitchLedgerRow.state == ServingPhase.ROLLED_BACK
        )
    )
    quarantined = frozenset(one for one in taken_back if one is not None)
    if row is None:
        return ServingState(scope, None, None, 0, None, quarantined=quarantined)
    return ServingState(
        scope=scope,
        current_digest=row.current_digest,
        previous_digest=row.previous_digest,
        sequence=row.sequence,
        pinned_by=row.pinned_by,
        challenger_digest=row.challenger_digest,
        challenger_percent=row.challenger_percent,
        quarantined=quarantined,
    )


def scopes(session: Session) -> Sequence[ServingState]:
    """Return every scope of the organization that ever switched."""
    names = session.scalars(select(ServingStateRow.scope).order_by(ServingStateRow.scope)).all()
    return [serving_state(session, name) for name in names]


def note_projected(session: Session, scope: str, sequence: int) -> None:
    """Note up to which switch the registry's aliases tell what a scope serves."""
    behind = (ServingStateRow.scope == scope, ServingStateRow.projected_sequence < sequence)
    session.execute(update(ServingStateRow).where(*behind).values(projected_sequence=sequence))


def release(session: Session, row: ReleasedArtefactRow) -> None:
    """Keep what routing must know of an artefact that passed the gate, for as long as it may be switched to."""
    values = {
        column.key: value
        for column in ReleasedArtefactRow.__table__.columns
        if (value := getattr(row, column.key)) is not None
    }
    key = ["organization_id", "scope", "artefact_digest"]
    changed = {name: value for name, value in values.items() if name not in key}
    session.execute(insert(ReleasedArtefactRow).values(values).on_conflict_do_update(index_elements=key, set_=changed))


def switch(session: Session, change: Switch, entry: Entry) -> bool:
    """Carry a switch out; False if this very change was made before.

    Raises `Conflict` when another switch won or a rule forbids it, `NotPermitted` when no verdict in force opens the
    door for the artefact. The caller's transaction holds state, ledger row and deployments together.
    """
    known = select(SwitchLedgerRow.sequence).where(SwitchLedgerRow.idempotency_key == entry.idempotency_key)
    if session.scalar(known) is not None:
        return False
    before = serving_state(session, entry.scope)
    after, row = switched(before, change)
    if change.phase in _OPENED_BY_A_VERDICT:
        _require_open(session, before, change.to_digest)
    if not _compare_and_set(session, entry, before, after):
        raise Conflict(f"{entry.scope} changed meanwhile: another switch won", code="switch_lost")
    session.add(_ledger_row(row, entry))
    session.flush()
    _publish(session, entry, before, after)
    return True


def republish(session: Session, entry: Entry) -> None:
    """Write what a scope serves for the gateways again, as it was released last."""
    state = serving_state(session, entry.scope)
    _put(session, entry, "champion", state.current_digest, weight_percent=100)
    _put(session, entry, "challenger", state.challenger_digest, weight_percent=state.challenger_percent)


def pin(session: Session, scope: str, *, by: str | None) -> bool:
    """Keep automation away from a scope, or let it come back; False for a scope that never switched."""
    changed = update(ServingStateRow).where(ServingStateRow.scope == scope).values(pinned_by=by)
    return session.scalar(changed.returning(ServingStateRow.scope)) is not None


def ledger_rows(session: Session, scope: str, *, below: int | None, limit: int) -> Sequence[SwitchLedgerRow]:
    """Return a scope's switches, newest first, from below a sequence number on."""
    query = select(SwitchLedgerRow).where(SwitchLedgerRow.scope == scope)
    if below is not None:
        query = query.where(SwitchLedgerRow.sequence < below)
    return session.scalars(query.order_by(SwitchLedgerRow.sequence.desc()).limit(limit)).all()


def champion_switches(session: Session, scope: str, *, since: datetime) -> Sequence[datetime]:
    """Return when the champion changed since a time, oldest first."""
    query = select(SwitchLedgerRow.recorded_at).where(
        SwitchLedgerRow.scope == scope,
        SwitchLedgerRow.state == ServingPhase.CHAMPION,
        SwitchLedgerRow.recorded_at >= since,
    )
    return session.scalars(query.order_by(SwitchLedgerRow.recorded_at)).all()


def released(session: Session, scope: str, artefact_digest: str | None) -> ReleasedArtefactRow | None:
    """Return what was kept of an artefact of a scope, or None."""
    return session.scalar(
        select(ReleasedArtefactRow).where(
            ReleasedArtefactRow.scope == scope, ReleasedArtefactRow.artefact_digest == artefact_digest
        )
    )


def releases(session: Session, scope: str, *, limit: int) -> Sequence[ReleasedArtefactRow]:
    """Return the artefacts that were released in a scope, newest first."""
    query = select(ReleasedArtefactRow).where(ReleasedArtefactRow.scope == scope)
    ordered = query.order_by(ReleasedArtefactRow.released_at.desc(), ReleasedArtefactRow.artefact_digest)
    return session.scalars(ordered.limit(limit)).all()


def _require_open(session: Session, before: ServingState, artefact_digest: str | None) -> None:
    if artefact_digest is None or not verdict_passes(session, artefact_digest):
        raise NotPermitted("No verdict in force says PASS for this artefact.", code="gate_closed")
    newest = latest_verdict(session, artefact_digest)
    if before.current_digest is not None and (newest is None or newest.champion_digest != before.current_digest):
        raise NotPermitted("The champion has changed since the verdict: evaluate it again.", code="gate_closed")


def _compare_and_set(session: Session, entry: Entry, before: ServingState, after: ServingState) -> bool:
    values = {
        "current_digest": after.current_digest,
        "previous_digest": after.previous_digest,
        "challenger_digest": after.challenger_digest,
        "challenger_percent": after.challenger_percent,
        "challenger_since": func.now() if after.challenger_digest is not None else None,
        "sequence": after.sequence,
    }
    if before.sequence == 0:
        new = insert(ServingStateRow).values(organization_id=entry.organization_id, scope=entry.scope, **values)
        made = new.on_conflict_do_nothing().returning(ServingStateRow.sequence)
        return session.scalar(made) is not None
    changed = (
        update(ServingStateRow)
        .where(
            ServingStateRow.scope == entry.scope,
            ServingStateRow.sequence == before.sequence,
            ServingStateRow.current_digest.is_not_distinct_from(before.current_digest),
        )
        .values(**values)
        .returning(ServingStateRow.sequence)
    )
    return session.scalar(changed) is not None


def _ledger_row(row: LedgerRow, entry: Entry) -> SwitchLedgerRow:
    return SwitchLedgerRow(
        organization_id=entry.organization_id,
        scope=row.scope,
        sequence=row.sequence,
        from_digest=row.from_digest,
        to_digest=row.to_digest,
        weight_percent=row.weight_percent,
        state=row.phase.value,
        reason=row.reason,
        evidence_ids=list(entry.evidence_ids),
        actor="automation" if row.actor is None else str(row.actor),
        idempotency_key=entry.idempotency_key,
    )


def _publish(session: Session, entry: Entry, before: ServingState, after: ServingState) -> None:
    """Write what changed for the gateways; each is woken, and looks every two seconds anyway."""
    if after.current_digest != before.current_digest:
        _put(session, entry, "champion", after.current_digest, weight_percent=100)
    shares = (before.challenger_digest, before.challenger_percent), (after.challenger_digest, after.challenger_percent)
    if shares[0] != shares[1]:
        # In the shadow its share is 0: it answers copies of requests, and no caller.
        _put(session, entry, "challenger", after.challenger_digest, weight_percent=after.challenger_percent)


def _put(session: Session, entry: Entry, alias: Alias, artefact_digest: str | None, *, weight_percent: int) -> None:
    name = deployment_id(entry.scope)
    if artefact_digest is None:
        withdraw_deployment(session, deployment_id=name, alias=alias)
        return
    known = released(session, entry.scope, artefact_digest)
    if known is None:
        raise Conflict(f"{artefact_digest} was never released in {entry.scope}", code="not_released")
    publish_deployment(
        session,
        ServedDeployment(
            organization_id=entry.organization_id,
            deployment_id=name,
            artefact_digest=artefact_digest,
            model=known.model,
            price_key=known.price_key,
            alias=alias,
            weight_percent=weight_percent,
            gate_verdict_digest=known.verdict_digest,
            context_tokens=known.context_tokens,
            output_tokens=known.output_tokens,
            tasks=tuple(str(task) for task in known.tasks),
        ),
    )
