"""Approvals: what waits for the caller, and their decision."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import approvals
from auterity_dagster.storage.tables.workflows import ApprovalRow

router = DeclaredRouter(prefix="/approvals", tags=["approvals"])
BODY_LIMIT_BYTES = 16 * 1024
READ: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.APPROVAL_DECIDE,
    "body_limit_bytes": 0,
    "audit_class": "none",
}


class DecisionWrite(BaseModel):
    """A decision; `final` replaces texts that may be edited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Literal["approved", "rejected"]
    final: dict[str, str] = {}


class ApprovalRead(BaseModel):
    """What a person is asked: `show` to read, `fields` to edit."""

    id: UUID
    dealership_id: UUID
    execution_id: UUID
    path: str
    role: str
    title: str
    show: dict[str, Any]
    fields: dict[str, str]
    state: str
    final: dict[str, str] | None
    decided_by: str | None
    decided_at: datetime | None
    expires_at: datetime
    created_at: datetime


@router.get("", **READ)
async def list_approvals(state: State, principal: CurrentPrincipal) -> list[ApprovalRead]:
    """Return what the caller may decide, oldest first."""
    async with state.database.begin(principal.organization_id) as session:
        found = await approvals.list_open(session, principal)
    return [_read(row) for row in found]


@router.get("/{approval_id}", **READ)
async def read_approval(state: State, principal: CurrentPrincipal, approval_id: UUID) -> ApprovalRead:
    """Return one approval, decided or not."""
    async with state.database.begin(principal.organization_id) as session:
        found = await approvals.find(session, principal, approval_id)
    return _read(found)


@router.post(
    "/{approval_id}/decide",
    authentication="user",
    permission=Permission.APPROVAL_DECIDE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
)
async def decide(state: State, principal: CurrentPrincipal, approval_id: UUID, body: DecisionWrite) -> ApprovalRead:
    """Decide; whoever comes second gets 409 with the first one's name and time."""
    async with state.database.begin(principal.organization_id) as session:
        decided = await approvals.decide(
            session, approval_id, principal=principal, outcome=body.decision, edited=body.final, now=state.clock.now()
        )
    return _read(decided)


def _read(row: ApprovalRow) -> ApprovalRead:
    return ApprovalRead(
        id=row.id, dealership_id=row.dealership_id, execution_id=row.execution_id, path=row.path, role=row.role,
        title=row.title, show=row.form["show"], fields=row.form["fields"], state=row.state, final=row.final,
        decided_by=row.decided_by_name, decided_at=row.decided_at, expires_at=row.expires_at,
        created_at=row.created_at,
    )  # fmt: skip
