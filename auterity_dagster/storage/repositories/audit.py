"""The audit log in PostgreSQL: one hash chain an organization, appended last in the transaction of the change."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from auterity_dagster.identity.audit import (
    AuditEntry,
    AuditHead,
    AuditRecord,
    AuditVerdict,
    genesis,
    record_hash,
    verify_chain,
)
from auterity_dagster.identity.principal import Principal
from auterity_dagster.storage.tables.identity import AuditEntryRow

LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:chain, 0))")
BATCH = 1000


async def append(
    session: AsyncSession, *, actor: Principal | None, action: str, subject: str, details: Mapping[str, Any]
) -> AuditEntry:
    """Append an entry in the caller's transaction, as its last statement; `actor` None is the system itself.

    The chain stays locked until that transaction ends, so nothing slow may follow. Details hold ids and digests,
    never personal data, and no fractions.
    """
    return await session.run_sync(append_blocking, actor=actor, action=action, subject=subject, details=details)


def append_blocking(
    session: Session, *, actor: Principal | None, action: str, subject: str, details: Mapping[str, Any]
) -> AuditEntry:
    """The same for synchronous code."""
    organization_id = organization_of(session)
    # Two statements: under READ COMMITTED the second one's snapshot is taken after the lock was got. In one statement
    # the snapshot would predate it, and two writers would continue from the same entry.
    session.execute(LOCK, {"chain": f"audit {organization_id}"})
    head = _head(session, organization_id)
    # The transaction's own now() may be older than the entry before; the clock under the lock never is.
    recorded_at = session.scalars(select(func.clock_timestamp())).one()
    record = AuditRecord(
        organization_id=organization_id,
        sequence=head.sequence + 1,
        recorded_at=recorded_at,
        actor_kind=actor.kind if actor is not None else "system",
        actor_id=actor.id if actor is not None else None,
        action=action,
        subject=subject,
        details=dict(details),
        previous_hash=head.entry_hash,
    )
    entry = AuditEntry(record=record, entry_hash=record_hash(record))
    columns = {field.name: getattr(record, field.name) for field in fields(record)}
    session.execute(insert(AuditEntryRow).values(**columns, entry_hash=entry.entry_hash))
    return entry


async def latest(session: AsyncSession, *, before: int | None, limit: int) -> list[AuditEntry]:
    """Return entries, newest first, below a sequence number."""
    query = select(AuditEntryRow).order_by(AuditEntryRow.sequence.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntryRow.sequence < before)
    return [_entry(row) for row in await session.scalars(query)]


async def verify(session: AsyncSession, *, noted: AuditHead | None = None) -> AuditVerdict:
    """Check the whole chain of the session's organization; see `identity.audit.verify_chain`."""
    return await session.run_sync(verify_blocking, noted=noted)


def verify_blocking(session: Session, *, noted: AuditHead | None = None) -> AuditVerdict:
    """The same for synchronous code."""
    return verify_chain(_entries(session), organization_id=organization_of(session), noted=noted)


def organization_of(session: Session) -> UUID:
    """Return the organization that a session was begun for."""
    organization_id = session.info["organization_id"]
    assert isinstance(organization_id, UUID)
    return organization_id


def _head(session: Session, organization_id: UUID) -> AuditHead:
    last = session.execute(
        select(AuditEntryRow.sequence, AuditEntryRow.entry_hash)
        .where(AuditEntryRow.organization_id == organization_id)
        .order_by(AuditEntryRow.sequence.desc())
        .limit(1)
    ).one_or_none()
    return AuditHead(last.sequence, last.entry_hash) if last is not None else genesis(organization_id)


def _entries(session: Session) -> Iterator[AuditEntry]:
    # Pages by key, so that a long chain is never in memory at once.
    after = 0
    while True:
        page = list(
            session.scalars(
                select(AuditEntryRow)
                .where(AuditEntryRow.sequence > after)
                .order_by(AuditEntryRow.sequence)
                .limit(BATCH)
            )
        )
        yield from map(_entry, page)
        session.expunge_all()
        if len(page) < BATCH:
            return
        after = page[-1].sequence


def _entry(row: AuditEntryRow) -> AuditEntry:
    record = AuditRecord(**{field.name: getattr(row, field.name) for field in fields(AuditRecord)})
    return AuditEntry(record=record, entry_hash=row.entry_hash)
