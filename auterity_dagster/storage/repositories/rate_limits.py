"""Rate limits as stored: of the organization, of its dealerships, of its API keys."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import NotFound
from auterity_dagster.relaycore.rate_limit import LimitScope, RateLimit
from auterity_dagster.storage.repositories.audit import organization_of
from auterity_dagster.storage.tables.identity import ApiKeyRow, DealershipRow, OrganizationRow
from auterity_dagster.storage.tables.routing import RateLimitRow

_SUBJECTS = {"organization": OrganizationRow, "dealership": DealershipRow, "key": ApiKeyRow}


async def rate_limits(session: AsyncSession) -> Sequence[RateLimit]:
    """Return every limit of the organization."""
    rows = await session.scalars(select(RateLimitRow).order_by(RateLimitRow.scope, RateLimitRow.subject_id))
    return [_stored(row) for row in rows]


async def put_rate_limit(session: AsyncSession, limit: RateLimit) -> None:
    """Set a limit in place of the one before. Raises `NotFound` for a subject that the organization does not have."""
    subject = _SUBJECTS[limit.scope]
    if await session.scalar(select(subject.id).where(subject.id == limit.subject_id)) is None:
        raise NotFound(f"there is no such {limit.scope}")
    key = {
        "organization_id": organization_of(session.sync_session),
        "scope": limit.scope,
        "subject_id": limit.subject_id,
    }
    values = {"requests_per_minute": limit.requests_per_minute, "tokens_per_minute": limit.tokens_per_minute}
    await session.execute(
        insert(RateLimitRow)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(key), set_={**values, "changed_at": func.now()})
    )


async def remove_rate_limit(session: AsyncSession, *, scope: LimitScope, subject_id: UUID) -> None:
    """Lift a limit. Raises `NotFound` where there is none."""
    removed = await session.scalar(
        delete(RateLimitRow)
        .where(RateLimitRow.scope == scope, RateLimitRow.subject_id == subject_id)
        .returning(RateLimitRow.subject_id)
    )
    if removed is None:
        raise NotFound("there is no such rate limit")


def _stored(row: RateLimitRow) -> RateLimit:
    return RateLimit(cast(LimitScope, row.scope), row.subject_id, row.requests_per_minute, row.tokens_per_minute)
