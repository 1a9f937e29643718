"""Recommendations: one open at a time for a task and its pair, applied by a person, compared with what happened."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.errors import Conflict, NotFound
from auterity_dagster.relaycore.recommendation import Recommendation
from auterity_dagster.storage.tables.analytics import RecommendationRow

VALID = timedelta(days=30)
State = Literal["open", "applied", "rolled_back", "expired"]


def put_recommendation(
    session: Session, organization_id: UUID, found: Recommendation, *, patch: dict[str, Any], now: datetime
) -> None:
    """Open a recommendation; the open one of the same task and pair gets the newer figures instead."""
    values: dict[str, Any] = {
        "evidence": _evidence(found),
        "patch": patch,
        "saving_nusd": found.saving_nusd,
        "saving_low_nusd": found.saving_low_nusd,
        "saving_high_nusd": found.saving_high_nusd,
        "quality_change_low": found.quality_change_low,
        "created_at": now,
        "expires_at": now + VALID,
    }
    session.execute(
        insert(RecommendationRow)
        .values(
            organization_id=organization_id,
            id=uuid4(),
            task=found.task,
            from_deployment=found.from_deployment,
            to_deployment=found.to_deployment,
            state="open",
            **values,
        )
        .on_conflict_do_update(
            index_elements=["organization_id", "task", "from_deployment", "to_deployment"],
            index_where=RecommendationRow.state == "open",
            set_=values,
        )
    )


def expire_recommendations(session: Session, *, now: datetime, kept: Sequence[tuple[str, str, str]]) -> None:
    """Close what is past its time, and what the newest look at the same task did not find again."""
    rows = session.scalars(select(RecommendationRow).where(RecommendationRow.state == "open"))
    for row in rows:
        if row.expires_at <= now or (row.task, row.from_deployment, row.to_deployment) not in kept:
            row.state = "expired"


def applied_recommendations(session: Session) -> Sequence[RecommendationRow]:
    """Return those whose saving can be measured."""
    return session.scalars(select(RecommendationRow).where(RecommendationRow.state == "applied")).all()


async def list_recommendations(
    session: AsyncSession, *, state: State | None, limit: int
) -> Sequence[RecommendationRow]:
    """Return recommendations, the largest sure saving first."""
    query = select(RecommendationRow).order_by(
        RecommendationRow.saving_low_nusd.desc(), RecommendationRow.created_at.desc(), RecommendationRow.id
    )
    if state is not None:
        query = query.where(RecommendationRow.state == state)
    return (await session.scalars(query.limit(limit))).all()


async def apply_recommendation(session: AsyncSession, recommendation_id: UUID, *, by: UUID) -> RecommendationRow:
    """Mark an open recommendation as applied. Raises `NotFound`, or `Conflict` for one that is not open any more."""
    changed = await session.scalar(
        update(RecommendationRow)
        .where(
            RecommendationRow.id == recommendation_id,
            RecommendationRow.state == "open",
            RecommendationRow.expires_at > func.now(),
        )
        .values(state="applied", decided_by=by, applied_at=func.now())
        .returning(RecommendationRow)
    )
    return changed or await _refuse(session, recommendation_id, "is not open")


async def roll_back_recommendation(session: AsyncSession, recommendation_id: UUID, *, by: UUID) -> RecommendationRow:
    """Mark an applied recommendation as rolled back. Raises `NotFound`, or `Conflict` for one that is not applied."""
    changed = await session.scalar(
        update(RecommendationRow)
        .where(RecommendationRow.id == recommendation_id, RecommendationRow.state == "applied")
        .values(state="rolled_back", decided_by=by, rolled_back_at=func.now())
        .returning(RecommendationRow)
    )
    return changed or await _refuse(session, recommendation_id, "is not applied")


async def _refuse(session: AsyncSession, recommendation_id: UUID, reason: str) -> RecommendationRow:
    row = await session.scalar(select(RecommendationRow).where(RecommendationRow.id == recommendation_id))
    if row is None:
        raise NotFound("There is no such recommendation")
    raise Conflict(f"The recommendation {reason}", code="recommendation_state", state=row.state)


def _evidence(found: Recommendation) -> dict[str, Any]:
    return {
        "requests": found.requests,
        "days": found.days,
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "quality": {**asdict(found.quality), "mean": found.quality.mean, "lower_bound": found.quality.lower_bound},
        "quality_before": {**asdict(found.quality_before), "mean": found.quality_before.mean},
        "is_length_measured": found.is_length_measured,
    }
