"""Versions of a scope's dataset: numbered without a gap, one for each content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.storage.tables.datasets import DatasetVersionRow


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A dataset that was just prepared and reported on."""

    organization_id: UUID
    scope: str
    dataset_digest: str
    rows_digest: str
    rows: int
    card: Mapping[str, Any]
    consent_ids: Sequence[UUID]
    drift: Mapping[str, Any] | None
    report_digest: str


def version_before(session: Session, scope: str, dataset_digest: str) -> DatasetVersionRow | None:
    """Return the version that a dataset is compared with: the newest of the scope with other content, or None."""
    return session.scalar(
        select(DatasetVersionRow)
        .where(DatasetVersionRow.scope == scope, DatasetVersionRow.dataset_digest != dataset_digest)
        .order_by(DatasetVersionRow.version.desc())
        .limit(1)
    )


def newest_version(session: Session, scope: str) -> DatasetVersionRow | None:
    """Return the scope's last version, or None."""
    newest = select(DatasetVersionRow).where(DatasetVersionRow.scope == scope)
    return session.scalar(newest.order_by(DatasetVersionRow.version.desc()).limit(1))


def record_version(session: Session, new: NewVersion) -> int:
    """Number a dataset and keep its card; the same content again is the version that it was."""
    # One writer a scope at a time: numbers have no gap, and two runs cannot take the same one.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"dataset:{new.scope}", 0))))
    known = session.scalar(
        select(DatasetVersionRow.version).where(
            DatasetVersionRow.scope == new.scope, DatasetVersionRow.dataset_digest == new.dataset_digest
        )
    )
    if known is not None:
        return known
    newest = session.scalar(select(func.max(DatasetVersionRow.version)).where(DatasetVersionRow.scope == new.scope))
    version = (newest or 0) + 1
    session.add(
        DatasetVersionRow(
            organization_id=new.organization_id,
            scope=new.scope,
            version=version,
            dataset_digest=new.dataset_digest,
            rows_digest=new.rows_digest,
            rows=new.rows,
            card=dict(new.card),
            consent_ids=[str(one) for one in new.consent_ids],
            drift=None if new.drift is None else dict(new.drift),
            report_digest=new.report_digest,
        )
    )
    session.flush()
    return version


async def dataset_versions(
    session: AsyncSession, scope: str, *, below: int | None, limit: int
) -> Sequence[DatasetVersionRow]:
    """Return a scope's versions, newest first, from below a version on."""
    query = select(DatasetVersionRow).where(DatasetVersionRow.scope == scope)
    if below is not None:
        query = query.where(DatasetVersionRow.version < below)
    return (await session.scalars(query.order_by(DatasetVersionRow.version.desc()).limit(limit))).all()
