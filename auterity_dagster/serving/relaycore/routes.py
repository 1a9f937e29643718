"""The gateway's other routes: why a request would go where, and whether the process works."""

from typing import Any

from fastapi import Request, Response

from auterity_dagster.errors import AuterityError
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.decision_record import told
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.relaycore.chat_wire import ChatWire
from auterity_dagster.serving.relaycore.gateway_request import BODY_LIMIT_BYTES, asked_of
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.serving.relaycore.wire_documents import CHAT

router = DeclaredRouter()


@router.get("/healthz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def healthz(request: Request) -> dict[str, str]:
    """Tell that a policy is loaded, and which."""
    state: GatewayState = request.state.relaycore
    return {"status": "ok", "policy": state.catalog.platform_policy().digest}


@router.get("/readyz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def readyz(request: Request, response: Response) -> dict[str, str]:
    """Tell a load balancer whether to send new calls here: not once the process is about to end."""
    state: GatewayState = request.state.relaycore
    response.status_code = 503 if state.drain.is_begun else 200
    return {"status": "draining" if state.drain.is_begun else "ready"}


@router.get("/openapi.json", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI document: it describes the gateway and holds nobody's data."""
    document: dict[str, Any] = request.app.openapi()
    return document


@router.post(
    "/v1/route:explain",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
    problems=(400, 404, 422),
    openapi_extra={"requestBody": CHAT},
)
async def explain(request: Request, principal: CurrentPrincipal) -> dict[str, Any]:
    """Say where a chat completion with this body and these headers would go, and why. Nothing is called or billed."""
    state: GatewayState = request.state.relaycore
    asked = asked_of(ChatWire(), await request.body(), headers=dict(request.headers), principal=principal)
    try:
        return told(await state.gateway.route(asked.request, asked.body))
    except AuterityError as error:
        if "rule" not in error.details:
            raise
        return told(error)
