"""`POST /v1/feedback`: how good an answer turned out to be, from whoever asked for it."""

from typing import Literal
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.errors import NotPermitted
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.storage.repositories.feedback import add_feedback

router = DeclaredRouter()
WORKFLOW = "workflow"


class FeedbackAdd(BaseModel):
    """A label: `thumb` is somebody's opinion, `workflow_outcome` what came of it. 0 is bad, 1 is good."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: UUID
    kind: Literal["thumb", "workflow_outcome"] = "thumb"
    score: float = Field(ge=0, le=1, allow_inf_nan=False)


class FeedbackRead(BaseModel):
    """The label as it stands, and the deployment that it says something about."""

    request_id: UUID
    kind: str
    score: float
    deployment: str
    task: str


@router.post(
    "/v1/feedback",
    authentication="api_key",
    permission=Permission.GATEWAY_CALL,
    body_limit_bytes=4_096,
    audit_class="none",
    problems=(404,),
)
async def give_feedback(request: Request, principal: CurrentPrincipal, write: FeedbackAdd) -> FeedbackRead:
    """Label an answer of the last 30 days, once for each kind; the same label again changes nothing."""
    state: GatewayState = request.state.relaycore
    if write.kind == "workflow_outcome" and WORKFLOW not in principal.purposes:
        raise NotPermitted("Only a key for workflows reports their outcomes.", field="kind")
    authentication = state.authentication
    async with authentication.database.begin(principal.organization_id) as session:
        label = await add_feedback(
            session,
            write.request_id,
            kind=write.kind,
            score=write.score,
            key_id=principal.id,
            dealership_ids=principal.dealership_ids,
            now=authentication.clock.now(),
        )
    return FeedbackRead(
        request_id=label.request_id,
        kind=label.kind,
        score=label.score,
        deployment=label.deployment_id,
        task=label.task,
    )
