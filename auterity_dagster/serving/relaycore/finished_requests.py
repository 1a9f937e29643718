"""`GET /v1/requests/{id}`: what a finished request cost, its attempts, and why it was answered by whom."""

from typing import Any
from uuid import UUID

from fastapi import Request

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.decision_record import told_again
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.storage.repositories.routing import request_by_id
from auterity_dagster.storage.tables.routing import RequestRow

router = DeclaredRouter()


@router.get(
    "/v1/requests/{request_id}",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=0,
    audit_class="none",
)
async def finished_request(request_id: UUID, request: Request, principal: CurrentPrincipal) -> dict[str, Any]:
    """Return one request of the key's organization and dealerships, about a second after it ended.

    The decision is told as `route:explain` tells it.
    """
    state: GatewayState = request.state.relaycore
    async with state.catalog.database.begin(principal.organization_id) as session:
        row = await request_by_id(session, request_id)
    if row is None or (principal.dealership_ids is not None and row.dealership_id not in principal.dealership_ids):
        raise NotFound("There is no such request, or it has not ended yet.", code="request_not_found")
    return _written(row)


def _written(row: RequestRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "auterity.request",
        "received_at": row.received_at,
        "model": row.model,
        "task": row.task,
        "purpose": row.purpose,
        "dealership_id": row.dealership_id,
        "is_stream": row.is_stream,
        "outcome": row.outcome,
        "deployment": row.deployment_id,
        "cost_nusd": row.cost_nusd,
        "usage": {"prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens},
        "latency_ms": row.latency_ms,
        "attempts": row.attempts,
        "decision": told_again(row.decision),
    }
