"""What the gateway answered: each request with its decision, its attempts and its cost."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, BeforeValidator

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.decision_record import told_again
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories.routing import recent_requests, request_by_id

router = DeclaredRouter(tags=["Requests"])


class RequestRead(BaseModel):
    """One finished request; `outcome` is `ok` or the code of the error that the caller got."""

    id: UUID
    received_at: datetime
    dealership_id: UUID | None
    purpose: str
    task: str | None
    model: str
    is_stream: bool
    policy_digest: str
    rule: str | None
    deployment_id: str | None
    attempts: list[Any]
    outcome: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_nusd: int
    latency_ms: int


class RequestWithDecision(RequestRead):
    """The same with the decision, as `route:explain` tells it, and what it was made from."""

    decision: Annotated[dict[str, Any], BeforeValidator(told_again)]
    decided_on: dict[str, Any] | None


@router.get(
    "/requests",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_requests(
    state: State,
    principal: CurrentPrincipal,
    before: datetime | None = None,
    task: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[RequestRead]:
    """Return the newest requests of the caller's dealerships; `before` goes on where a page ended."""
    async with state.database.begin(principal.organization_id) as session:
        rows = await recent_requests(
            session, before=before, task=task, dealership_ids=principal.dealership_ids, limit=limit
        )
    return [RequestRead.model_validate(row, from_attributes=True) for row in rows]


@router.get(
    "/requests/{request_id}",
    authentication="user_or_api_key",
    permission=Permission.USAGE_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def read_request(request_id: UUID, state: State, principal: CurrentPrincipal) -> RequestWithDecision:
    """Return one request with its decision."""
    async with state.database.begin(principal.organization_id) as session:
        row = await request_by_id(session, request_id)
    is_hidden = row is None or (
        principal.dealership_ids is not None and row.dealership_id not in principal.dealership_ids
    )
    if is_hidden:
        raise NotFound("There is no such request")
    return RequestWithDecision.model_validate(row, from_attributes=True)
