"""Approvals: what waits for the caller, and their decision."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.errors import Conflict, Invalid, NotFound, NotPermitted
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import approvals
from auterity_dagster.storage.tables.workflows import ApprovalRow

router = DeclaredRouter(prefix="/approvals", tags=["approvals"])
BODY_LIMIT_BYTES = 16 * 1024
GROUP_LIMIT = 200
GROUP_BODY_LIMIT_BYTES = 512 * 1024
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


class GroupedDecision(DecisionWrite):
    """The decision of one approval of a list."""

    approval_id: UUID


class GroupDecisionWrite(BaseModel):
    """What is decided of a list; an approval that is not in it stays open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decisions: Annotated[tuple[GroupedDecision, ...], Field(min_length=1, max_length=GROUP_LIMIT)]


class GroupDecisionRead(BaseModel):
    """What became of one decision: the approval's state, or the reason why it was not taken."""

    approval_id: UUID
    state: str | None
    problem: str | None


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
async def list_approvals(
    state: State, principal: CurrentPrincipal, workflow: Annotated[str | None, Query(max_length=63)] = None
) -> list[ApprovalRead]:
    """Return what the caller may decide, of one workflow or of all, oldest first."""
    async with state.database.begin(principal.organization_id) as session:
        found = await approvals.list_open(session, principal, workflow=workflow)
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


@router.post(
    "/decide-group",
    authentication="user",
    permission=Permission.APPROVAL_DECIDE,
    body_limit_bytes=GROUP_BODY_LIMIT_BYTES,
    audit_class="change",
)
async def decide_group(state: State, principal: CurrentPrincipal, body: GroupDecisionWrite) -> list[GroupDecisionRead]:
    """Decide a list: each by itself, so that one that somebody else decided holds up none of the others."""
    return [await _decided(state, principal, one) for one in body.decisions]


async def _decided(state: State, principal: Principal, one: GroupedDecision) -> GroupDecisionRead:
    try:
        async with state.database.begin(principal.organization_id) as session:
            row = await approvals.decide(
                session, one.approval_id, principal=principal, outcome=one.decision, edited=one.final,
                now=state.clock.now(),
            )  # fmt: skip
    except (Conflict, Invalid, NotFound, NotPermitted) as error:
        return GroupDecisionRead(approval_id=one.approval_id, state=None, problem=error.message)
    return GroupDecisionRead(approval_id=one.approval_id, state=row.state, problem=None)


def _read(row: ApprovalRow) -> ApprovalRead:
    return ApprovalRead(
        id=row.id, dealership_id=row.dealership_id, execution_id=row.execution_id, path=row.path, role=row.role,
        title=row.title, show=row.form["show"], fields=row.form["fields"], state=row.state, final=row.final,
        decided_by=row.decided_by_name, decided_at=row.decided_at, expires_at=row.expires_at,
        created_at=row.created_at,
    )  # fmt: skip
