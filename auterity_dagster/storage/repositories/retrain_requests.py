"""Requests to train a scope again: opened with reason and budget, one at a time, started once by the sensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.money import NanoUsd
from auterity_dagster.neuroweaver.retraining import Reason, why_not_yet
from auterity_dagster.storage.tables.datasets import DatasetVersionRow
from auterity_dagster.storage.tables.specialisation import GateVerdictRow, RetrainRequestRow

OPEN = ("open", "started")
FALLBACK_RECIPE = "smollm2_cpu_qlora"
"""What a scope is trained by that nobody ever asked to train: its models came from a run by hand."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A wish to train; `configuration` is what the run gets beside organization and recipe.

    `budget_nusd` is what the run may cost in all; 0, which only automation asks with: what the recipe allows.
    """

    organization_id: UUID
    scope: str
    reason: Reason
    evidence: Mapping[str, Any]
    budget_nusd: NanoUsd
    recipe: str
    configuration: Mapping[str, Any]
    opened_by: str


def open_request(session: Session, new: NewRequest, *, now: datetime) -> RetrainRequestRow:
    """Open a request. Raises `Conflict` while another of the scope is open, or before the cool-down is over."""
    last = session.scalar(select(func.max(RetrainRequestRow.opened_at)).where(RetrainRequestRow.scope == new.scope))
    if (wait := why_not_yet(new.reason, last_opened_at=last, now=now)) is not None:
        raise Conflict(f"{new.scope} is not trained again yet: {wait}", code="retrain_cool_down")
    added = session.scalar(
        insert(RetrainRequestRow)
        .values(
            organization_id=new.organization_id,
            id=uuid4(),
            scope=new.scope,
            reason=new.reason,
            evidence=dict(new.evidence),
            budget_nusd=new.budget_nusd,
            recipe=new.recipe,
            configuration=dict(new.configuration),
            state="open",
            opened_by=new.opened_by,
            opened_at=now,
        )
        .on_conflict_do_nothing()
        .returning(RetrainRequestRow)
    )
    if added is None:
        raise Conflict(f"{new.scope} has an open request already.", code="retrain_open")
    return added


def request_without(session: Session, organization_id: UUID, consent_id: UUID, *, now: datetime) -> None:
    """Ask to train again, without the rows of a revoked consent, each scope that a dataset with them was made for.

    The request names the artefacts that learned from them. A scope with an open request is trained without them anyway.
    """
    holds = DatasetVersionRow.consent_ids.contains([str(consent_id)])
    seen: dict[str, list[str]] = {}
    for scope, digest in session.execute(
        select(DatasetVersionRow.scope, DatasetVersionRow.dataset_digest).where(holds)
    ):
        seen.setdefault(scope, []).append(digest)
    for scope, datasets in seen.items():
        learned = session.scalars(
            select(GateVerdictRow.artefact_digest).where(GateVerdictRow.dataset_digest.in_(datasets)).distinct()
        )
        evidence = {"consent_id": str(consent_id), "artefacts": sorted(learned)}
        request_again(session, organization_id, scope, reason="consent_revoked", evidence=evidence, now=now)


def request_again(
    session: Session,
    organization_id: UUID,
    scope: str,
    *,
    reason: Reason,
    evidence: Mapping[str, Any],
    now: datetime,
    recipe: str = FALLBACK_RECIPE,
) -> bool:
    """Ask to train a scope as it was asked for last, by `recipe` where nobody ever asked.

    False while a request is open or the cool-down lasts.
    """
    last = session.scalar(
        select(RetrainRequestRow)
        .where(RetrainRequestRow.scope == scope)
        .order_by(RetrainRequestRow.opened_at.desc())
        .limit(1)
    )
    new = NewRequest(
        organization_id=organization_id,
        scope=scope,
        reason=reason,
        evidence=evidence,
        budget_nusd=0 if last is None else last.budget_nusd,
        recipe=recipe if last is None else last.recipe,
        configuration={} if last is None else last.configuration,
        opened_by="automation",
    )
    try:
        open_request(session, new, now=now)
    except Conflict:
        return False
    return True


def open_requests(session: Session) -> Sequence[RetrainRequestRow]:
    """Return the organization's requests that wait or run, oldest first."""
    rows = select(RetrainRequestRow).where(RetrainRequestRow.state.in_(OPEN))
    return session.scalars(rows.order_by(RetrainRequestRow.opened_at, RetrainRequestRow.id)).all()


def start_request(session: Session, request_id: UUID) -> bool:
    """Note that a request's run was asked for; False if it was before, or is no longer wanted."""
    return _move(session, request_id, before=("open",), after="started") is not None


def end_request(session: Session, request_id: UUID, *, state: str, run_id: str | None, now: datetime) -> bool:
    """Note how a request's run ended: `finished` or `failed`."""
    moved = _move(session, request_id, before=("started",), after=state, run_id=run_id, closed_at=now)
    return moved is not None


def cancel_request(session: Session, request_id: UUID, *, now: datetime) -> RetrainRequestRow:
    """Withdraw a request that has not started. Raises `NotFound`, or `Conflict` for one that has."""
    cancelled = _move(session, request_id, before=("open",), after="cancelled", closed_at=now)
    if cancelled is not None:
        return cancelled
    row = find_request(session, request_id)
    raise Conflict(f"This training run is {row.state} already.", code="retrain_state", state=row.state)


def find_request(session: Session, request_id: UUID) -> RetrainRequestRow:
    """Return one request. Raises `NotFound`."""
    row = session.scalar(select(RetrainRequestRow).where(RetrainRequestRow.id == request_id))
    if row is None:
        raise NotFound("There is no such training run.")
    return row


def list_requests(session: Session, *, before: tuple[datetime, UUID] | None, limit: int) -> Sequence[RetrainRequestRow]:
    """Return requests, newest first, from after a row on."""
    place = tuple_(RetrainRequestRow.opened_at, RetrainRequestRow.id)
    query = select(RetrainRequestRow)
    if before is not None:
        query = query.where(place < before)
    ordered = query.order_by(RetrainRequestRow.opened_at.desc(), RetrainRequestRow.id.desc())
    return session.scalars(ordered.limit(limit)).all()


def organizations_with_open_retraining(session: Session) -> Sequence[UUID]:
    """Return whose requests wait or run, over all organizations: ids only."""
    return list(session.scalars(select(func.organizations_with_open_retraining())))


def organizations_with_serving(session: Session) -> Sequence[UUID]:
    """Return who has a scope that ever switched, over all organizations: ids only."""
    return list(session.scalars(select(func.organizations_with_serving())))


def _move(
    session: Session, request_id: UUID, *, before: Sequence[str], after: str, **values: Any
) -> RetrainRequestRow | None:
    return session.scalar(
        update(RetrainRequestRow)
        .where(RetrainRequestRow.id == request_id, RetrainRequestRow.state.in_(before))
        .values(state=after, **values)
        .returning(RetrainRequestRow)
    )
