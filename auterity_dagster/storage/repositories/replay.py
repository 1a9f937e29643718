"""Labelled decisions of the past, for replaying what a predictor would have chosen."""

from typing import Any, cast

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from auterity_dagster.relaycore.predictor_gate import Replayed
from auterity_dagster.storage.tables.analytics import FeedbackRow
from auterity_dagster.storage.tables.routing import RequestRow

LIMIT = 50_000


def labelled_decisions(session: Session, *, predictor_digest: str) -> Replayed:
    """Return the newest decisions that have a label and a propensity and that this predictor watched."""
    rows = session.execute(
        select(
            RequestRow.propensity,
            RequestRow.predicted["choice"].astext == RequestRow.deployment_id,
            func.avg(FeedbackRow.score),
            RequestRow.cost_nusd,
        )
        .join(
            FeedbackRow,
            (FeedbackRow.organization_id == RequestRow.organization_id) & (FeedbackRow.request_id == RequestRow.id),
        )
        .where(RequestRow.propensity.is_not(None), RequestRow.predicted["predictor"].astext == predictor_digest)
        .group_by(RequestRow.organization_id, RequestRow.day, RequestRow.id)
        .order_by(RequestRow.day.desc())
        .limit(LIMIT)
    ).all()
    found = np.array([tuple(row) for row in cast(list[Any], rows)], dtype=np.float64).reshape(-1, 4)
    return Replayed(propensities=found[:, 0], is_same=found[:, 1], scores=found[:, 2], costs=found[:, 3])
