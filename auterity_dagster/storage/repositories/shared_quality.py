"""Labels that organizations share: read in each one's own transaction, and given to each as its own prior."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from auterity_dagster.relaycore.quality import SHARED
from auterity_dagster.relaycore.quality_sharing import Contribution, Key, contributions, shared_prior
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.routing import quality_evidence
from auterity_dagster.storage.tables.routing import RouteQualityRow


def share_labels(database: BlockingDatabase, *, now: datetime) -> int:
    """Give every organization the prior that the others' labels make; return how many priors were written."""
    with database.begin_without_organization() as session:
        organizations = list(session.scalars(select(func.organizations_with_quality())))
    given: dict[Key, dict[UUID, Contribution]] = defaultdict(dict)
    for organization_id in organizations:
        with database.begin(organization_id) as session:
            for key, contribution in contributions(quality_evidence(session), now=now).items():
                given[key][organization_id] = contribution
    written = 0
    for organization_id in organizations:
        with database.begin(organization_id) as session:
            written += _give(session, organization_id, given, now=now)
    return written


def _give(
    session: Session, organization_id: UUID, given: Mapping[Key, Mapping[UUID, Contribution]], *, now: datetime
) -> int:
    session.execute(delete(RouteQualityRow).where(RouteQualityRow.source == SHARED))
    rows: list[RouteQualityRow] = []
    for (task, artefact_digest), by_organization in sorted(given.items()):
        prior = shared_prior({who: one for who, one in by_organization.items() if who != organization_id})
        if prior.weight > 0:
            rows.append(
                RouteQualityRow(
                    organization_id=organization_id,
                    task=task,
                    artefact_digest=artefact_digest,
                    source=SHARED,
                    items=prior.weight,
                    mean_score=min(prior.good / prior.weight, 1.0),
                    recorded_at=now,
                )
            )
    session.add_all(rows)
    return len(rows)
