"""Measured outcomes in the object store, and which predictor each alias of an organization names."""

from collections.abc import Sequence
from typing import Literal, cast
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.relaycore.predicted_quality import PublishedPredictor
from auterity_dagster.storage.repositories.gate_verdicts import passes
from auterity_dagster.storage.tables.analytics import OutcomeSetRow, RoutingPredictorRow

PredictorAlias = Literal["champion", "challenger"]


def add_outcome_set(session: Session, organization_id: UUID, *, digest: str, source: str, outcomes: int) -> None:
    """Note that an object holds outcomes; the same object a second time changes nothing."""
    session.execute(
        insert(OutcomeSetRow)
        .values(organization_id=organization_id, digest=digest, source=source, outcomes=outcomes)
        .on_conflict_do_nothing()
    )


def outcome_sets(session: Session) -> Sequence[OutcomeSetRow]:
    """Return the organization's sets, the oldest first."""
    return session.scalars(select(OutcomeSetRow).order_by(OutcomeSetRow.recorded_at, OutcomeSetRow.digest)).all()


async def published_predictors(session: AsyncSession) -> tuple[PublishedPredictor, ...]:
    """Return what each alias of the organization names, with the newest verdict on it."""
    verdict = passes(RoutingPredictorRow.artefact_digest.expression).correlate(RoutingPredictorRow).scalar_subquery()
    rows = await session.execute(
        select(RoutingPredictorRow.alias, RoutingPredictorRow.artefact_digest, verdict).order_by(
            RoutingPredictorRow.alias
        )
    )
    return tuple(
        PublishedPredictor(cast(PredictorAlias, alias), digest, bool(is_passing)) for alias, digest, is_passing in rows
    )


def publish_predictor(
    session: Session,
    organization_id: UUID,
    *,
    alias: PredictorAlias,
    artefact_digest: str,
    verdict_digest: str,
    registered_version: str | None,
) -> None:
    """Let an alias name these bytes; who loads them has to ask for their verdict."""
    values = {
        "artefact_digest": artefact_digest,
        "verdict_digest": verdict_digest,
        "registered_version": registered_version,
    }
    session.execute(
        insert(RoutingPredictorRow)
        .values(organization_id=organization_id, alias=alias, **values)
        .on_conflict_do_update(index_elements=["organization_id", "alias"], set_={**values, "published_at": func.now()})
    )
