"""Labels of answers: written once per request and kind, and added to the running sum that routing reads."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Float, cast, extract, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, Invalid, NotFound
from auterity_dagster.relaycore.quality import HALF_LIFE, LabelSource, QualityEvidence
from auterity_dagster.storage.tables.analytics import FeedbackRow
from auterity_dagster.storage.tables.routing import RequestRow, RouteQualityRow

LABELLED_WITHIN = timedelta(days=30)
"""After so long a label is refused: the model behind the name is hardly the same."""


async def add_feedback(
    session: AsyncSession,
    request_id: UUID,
    *,
    kind: LabelSource,
    score: float,
    key_id: UUID,
    dealership_ids: frozenset[UUID] | None,
    now: datetime,
) -> FeedbackRow:
    """Label a request's answer and return the label; the same label a second time changes nothing.

    Raises `NotFound` for a request that is not there, older than 30 days, or of a dealership that the key may not see;
    `Invalid` where nothing was answered; `Conflict` where the answer has another label of this kind.
    """
    request = await session.scalar(
        select(RequestRow).where(RequestRow.id == request_id, RequestRow.received_at > now - LABELLED_WITHIN)
    )
    if request is None or (dealership_ids is not None and request.dealership_id not in dealership_ids):
        raise NotFound("There is no such request of the last 30 days.", code="request_not_found")
    if request.deployment_id is None or request.artefact_digest is None:
        raise Invalid("This request has no answer to label.", code="nothing_answered", field="request_id")
    values = {
        "organization_id": request.organization_id,
        "request_id": request_id,
        "kind": kind,
        "key_id": key_id,
        "task": request.task or "",
        "artefact_digest": request.artefact_digest,
        "deployment_id": request.deployment_id,
        "score": score,
        "recorded_at": now,
    }
    added = await session.scalar(insert(FeedbackRow).values(values).on_conflict_do_nothing().returning(FeedbackRow))
    if added is not None:
        await session.execute(_added_to_sum(_evidence(added)))
        return added
    known = await session.get_one(FeedbackRow, (request.organization_id, request_id, kind))
    if known.score != score:
        raise Conflict("This answer has another label of this kind.", code="already_labelled", kind=kind)
    return known


def add_label(session: Session, evidence: QualityEvidence) -> None:
    """Add labels, `items` of them at `recorded_at`, to the running sum of their source."""
    session.execute(_added_to_sum(evidence))


def _evidence(row: FeedbackRow) -> QualityEvidence:
    return QualityEvidence(
        row.organization_id, row.task, row.artefact_digest, row.kind, 1.0, row.score, row.recorded_at
    )


def _added_to_sum(evidence: QualityEvidence) -> Insert:
    """One statement: what is there ages to the later of the two times, and so does what is added."""
    new = insert(RouteQualityRow).values(
        organization_id=evidence.organization_id,
        task=evidence.task,
        artefact_digest=evidence.artefact_digest,
        source=evidence.source,
        items=evidence.items,
        mean_score=evidence.mean_score,
        recorded_at=evidence.recorded_at,
    )
    at = func.greatest(RouteQualityRow.recorded_at, new.excluded.recorded_at)
    before = _aged(RouteQualityRow.items.expression, RouteQualityRow.recorded_at.expression, at)
    added = _aged(new.excluded["items"], new.excluded.recorded_at, at)
    mean = (before * RouteQualityRow.mean_score + added * new.excluded.mean_score) / (before + added)
    return new.on_conflict_do_update(
        index_elements=["organization_id", "task", "artefact_digest", "source"],
        set_={
            "items": before + added,
            "mean_score": func.least(func.greatest(mean, 0.0), 1.0),
            "recorded_at": at,
        },
    )


def _aged(
    items: ColumnElement[float], recorded_at: ColumnElement[datetime], at: ColumnElement[datetime]
) -> ColumnElement[float]:
    age_s = cast(extract("epoch", at - recorded_at), Float)
    return items * func.power(0.5, age_s / HALF_LIFE.total_seconds())
