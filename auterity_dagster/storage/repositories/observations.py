"""What a served model did, from the rows that its traffic left: errors, latencies, outcomes, comparisons."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auterity_dagster.neuroweaver.rollout import Observed
from auterity_dagster.neuroweaver.sequential import Winner
from auterity_dagster.storage.tables.analytics import FeedbackRow
from auterity_dagster.storage.tables.ledger import UsageRow
from auterity_dagster.storage.tables.specialisation import PairwiseRow

HARMFUL_SCORE = 0.25
"""A label up to here says that the answer did harm: a rejected reply, a thumb down, a lost lead."""

LOOKED_AT = 5_000
"""So many of the newest rows are enough to decide."""

CALLERS_OWN = "cancelled"
"""The outcome of an attempt that its caller ended."""


def observed(
    session: Session,
    *,
    deployment_id: str,
    artefact_digest: str,
    champion_id: str | None,
    since: datetime,
    failed_health_checks: int,
) -> Observed:
    """Return what an artefact did since a time, and how fast the champion was meanwhile.

    Attempts count, not requests: an answer of another model after a failure does not make up for it.
    """
    rows = session.execute(_attempts(deployment_id, since)).all()
    labels = session.scalars(
        select(FeedbackRow.score)
        .where(FeedbackRow.artefact_digest == artefact_digest, FeedbackRow.recorded_at >= since)
        .order_by(FeedbackRow.recorded_at, FeedbackRow.request_id)
        .limit(LOOKED_AT)
    )
    compared = () if champion_id is None else session.execute(_attempts(champion_id, since)).all()
    return Observed(
        failed_health_checks=failed_health_checks,
        requests=len(rows),
        errors=sum(outcome not in ("ok", CALLERS_OWN) for outcome, _ in rows),
        latencies_ms=[latency_ms for outcome, latency_ms in rows if outcome == "ok" and latency_ms is not None],
        champion_latencies_ms=[ms for outcome, ms in compared if outcome == "ok" and ms is not None],
        harms=[score <= HARMFUL_SCORE for score in labels],
    )


def record_pair(
    session: Session,
    *,
    organization_id: UUID,
    scope: str,
    request_id: UUID,
    champion_digest: str | None,
    challenger_digest: str,
    winner: Winner,
    decided_by: str,
) -> None:
    """Keep which of two answers to a request was better; what was decided first about a request stays."""
    values = {
        "organization_id": organization_id,
        "scope": scope,
        "request_id": request_id,
        "champion_digest": champion_digest,
        "challenger_digest": challenger_digest,
        "winner": winner,
        "decided_by": decided_by,
    }
    session.execute(insert(PairwiseRow).values(values).on_conflict_do_nothing())


def winners(session: Session, scope: str, *, champion_digest: str | None, challenger_digest: str) -> Sequence[Winner]:
    """Return who won the comparisons of two artefacts in a scope, oldest first."""
    rows = session.scalars(
        select(PairwiseRow.winner)
        .where(
            PairwiseRow.scope == scope,
            PairwiseRow.champion_digest.is_not_distinct_from(champion_digest),
            PairwiseRow.challenger_digest == challenger_digest,
        )
        .order_by(PairwiseRow.recorded_at, PairwiseRow.request_id)
    )
    return [cast(Winner, row) for row in rows]


def _attempts(deployment_id: str, since: datetime) -> Select[str, int | None]:
    return (
        select(UsageRow.outcome, UsageRow.latency_ms)
        .where(UsageRow.deployment_id == deployment_id, UsageRow.happened_at >= since)
        .order_by(UsageRow.happened_at.desc(), UsageRow.id)
        .limit(LOOKED_AT)
    )
