"""`GET /v1/models`: what `model` may name, written for whichever SDK asks."""

from typing import Any

from fastapi import Request

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.ports import Steering
from auterity_dagster.relaycore.steering_candidates import only_in_shadow
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.relaycore.route_errors import ANTHROPIC_VERSION
from auterity_dagster.serving.relaycore.state import GatewayState

UNDATED = "1970-01-01T00:00:00Z"

router = DeclaredRouter()


@router.get(
    "/v1/models",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=0,
    audit_class="none",
)
async def models(request: Request, principal: CurrentPrincipal) -> dict[str, Any]:
    """List the objectives, the pools, and each deployment that can be called now."""
    state: GatewayState = request.state.relaycore
    owners = _owners(await state.catalog.steering(principal.organization_id))
    listed = [_model(request, name, owner) for name, owner in owners.items()]
    if ANTHROPIC_VERSION in request.headers:
        names = list(owners)
        return {"data": listed, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    return {"object": "list", "data": listed}


@router.get(
    "/v1/models/{model:path}",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=0,
    audit_class="none",
)
async def model(model: str, request: Request, principal: CurrentPrincipal) -> dict[str, Any]:
    """Return one of them. Raises `NotFound`."""
    state: GatewayState = request.state.relaycore
    owner = _owners(await state.catalog.steering(principal.organization_id)).get(model)
    if owner is None:
        raise NotFound("There is no such model, or it cannot be called now.", code="model_not_found", field="model")
    return _model(request, model, owner)


def _owners(steering: Steering) -> dict[str, str]:
    """Return whose each name is: ours for what we choose among, else the provider's."""
    policy, snapshot = steering.policy, steering.snapshot
    names = ["auto", *(f"auto/{one}" for one in policy.objectives), *(f"pool/{one}" for one in policy.pools)]
    callable_now = (
        one
        for one in snapshot.deployments.values()
        if one.id not in snapshot.unavailable and only_in_shadow(one) is None
    )
    return dict.fromkeys(names, "auterity") | {one.id: one.provider for one in callable_now}


def _model(request: Request, name: str, owner: str) -> dict[str, Any]:
    if ANTHROPIC_VERSION in request.headers:
        return {"type": "model", "id": name, "display_name": name, "created_at": UNDATED, "lifecycle": "active"}
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
