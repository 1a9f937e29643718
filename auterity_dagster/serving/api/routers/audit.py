"""The audit log: read from its end, and checked from its beginning."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.audit import AuditEntry, AuditHead
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit

router = DeclaredRouter(prefix="/audit", tags=["audit"])
Digest = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")]


class AuditEntryRead(BaseModel):
    """One entry with the hash that the next one covers."""

    sequence: int
    recorded_at: datetime
    actor_kind: str
    actor_id: UUID | None
    action: str
    subject: str
    details: dict[str, Any]
    entry_hash: str


class AuditVerdictRead(BaseModel):
    """What the check found; note the head elsewhere and pass it to the next check, which then sees a cut end too."""

    is_intact: bool
    head_sequence: int
    head_hash: str
    broken_sequence: int | None
    reason: str | None


@router.get("", authentication="user", permission=Permission.AUDIT_READ, body_limit_bytes=0, audit_class="none")
async def list_audit_entries(
    state: State,
    principal: CurrentPrincipal,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[AuditEntryRead]:
    """Return entries newest first; `before` is the last page's lowest sequence."""
    async with state.database.begin(principal.organization_id) as session:
        return [_read(entry) for entry in await audit.latest(session, before=before, limit=limit)]


@router.get("/verify", authentication="user", permission=Permission.AUDIT_READ, body_limit_bytes=0, audit_class="none")
async def verify_audit_log(
    state: State,
    principal: CurrentPrincipal,
    noted_sequence: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    noted_hash: Digest | None = None,
) -> AuditVerdictRead:
    """Check every entry of the organization's chain, and that a head noted earlier is still in it."""
    if (noted_sequence is None) != (noted_hash is None):
        raise Invalid("a noted head has a sequence and a hash", field="noted_hash")
    noted = AuditHead(noted_sequence, bytes.fromhex(noted_hash)) if noted_sequence is not None and noted_hash else None
    async with state.database.begin(principal.organization_id) as session:
        verdict = await audit.verify(session, noted=noted)
    return AuditVerdictRead(
        is_intact=verdict.is_intact,
        head_sequence=verdict.head.sequence,
        head_hash=verdict.head.entry_hash.hex(),
        broken_sequence=verdict.broken_sequence,
        reason=verdict.reason,
    )


def _read(entry: AuditEntry) -> AuditEntryRead:
    record = entry.record
    return AuditEntryRead(
        sequence=record.sequence,
        recorded_at=record.recorded_at,
        actor_kind=record.actor_kind,
        actor_id=record.actor_id,
        action=record.action,
        subject=record.subject,
        details=dict(record.details),
        entry_hash=entry.entry_hash.hex(),
    )
