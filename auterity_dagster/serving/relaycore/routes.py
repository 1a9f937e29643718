"""The gateway's other routes: which models there are, why a request would go where, and whether the process works."""

from dataclasses import asdict
from typing import Any

from fastapi import Request, Response

from auterity_dagster.errors import AuterityError
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.steering import Route
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.relaycore.chat_wire import ChatWire
from auterity_dagster.serving.relaycore.gateway_request import BODY_LIMIT_BYTES, asked_of
from auterity_dagster.serving.relaycore.state import GatewayState

router = DeclaredRouter()


@router.get("/healthz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def healthz(request: Request) -> dict[str, str]:
    """Tell that a policy is loaded, and which."""
    state: GatewayState = request.state.relaycore
    return {"status": "ok", "policy": state.catalog.policy().digest}


@router.get("/readyz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def readyz(request: Request, response: Response) -> dict[str, str]:
    """Tell a load balancer whether to send new calls here: not once the process is about to end."""
    state: GatewayState = request.state.relaycore
    response.status_code = 503 if state.drain.is_begun else 200
    return {"status": "draining" if state.drain.is_begun else "ready"}


@router.get(
    "/v1/models",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=0,
    audit_class="none",
)
async def models(request: Request, principal: CurrentPrincipal) -> dict[str, Any]:
    """List what `model` may name: the objectives, the pools, and each deployment that can be called now."""
    state: GatewayState = request.state.relaycore
    policy = state.catalog.policy()
    snapshot = await state.catalog.snapshot(principal.organization_id)
    names = ["auto", *(f"auto/{one}" for one in policy.objectives), *(f"pool/{one}" for one in policy.pools)]
    listed = [_model(name, owned_by="auterity") for name in names]
    listed += [
        _model(one.id, owned_by=one.provider)
        for one in snapshot.deployments.values()
        if one.id not in snapshot.unavailable
    ]
    return {"object": "list", "data": listed}


@router.post(
    "/v1/route:explain",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
)
async def explain(request: Request, principal: CurrentPrincipal) -> dict[str, Any]:
    """Say where a chat completion with this body and these headers would go, and why. Nothing is called or billed."""
    state: GatewayState = request.state.relaycore
    asked = asked_of(ChatWire(), await request.body(), headers=dict(request.headers), principal=principal)
    try:
        return _explained(await state.gateway.route(asked.request))
    except AuterityError as error:
        if "removed" not in error.details:
            raise
        return {"route": [], "refused": {"code": error.code, "message": error.message, **error.details}}


def _explained(route: Route) -> dict[str, Any]:
    return {
        "policy": f"{route.policy_name}@{route.policy_digest}",
        "rule": route.rule,
        "objective": route.objective,
        "route": [
            {
                "deployment": step.deployment.id,
                "model": step.deployment.model,
                "provider": step.deployment.provider,
                "max_tokens": step.max_tokens,
                "may_cost_nusd": step.hold_nusd,
                "is_degraded": step.is_degraded,
            }
            for step in route.steps
        ],
        "candidates": [asdict(one) for one in route.considered],
    }


def _model(name: str, *, owned_by: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owned_by}
