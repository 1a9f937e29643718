"""Where models can be called, and how good each is known to be at which task."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.catalog import Deployment, DeploymentOverride, served_deployment
from auterity_dagster.relaycore.quality import QualityEvidence, posterior
from auterity_dagster.relaycore.steering_catalog import narrowed
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.api.steering import Platform, platform, policy_in_force
from auterity_dagster.serving.api.whole_organization import require_whole_organization
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.deployment_overrides import put_override
from auterity_dagster.storage.repositories.routing import RoutingState, routing_state

router = DeclaredRouter(tags=["Deployments"])
BODY_LIMIT_BYTES = 1_024
IfMatch = Annotated[str, Header(pattern=r'^"?[0-9]{1,9}"?$')]
"""The version of the settings that the caller read; 0 where nothing was set."""


class QualityRead(BaseModel):
    """What is known of a deployment at one task; routing trusts `lower_bound`, the 5 % quantile.

    `items` are evaluated items and labels together, `mean_score` the posterior's mean.
    """

    task: str
    items: float
    mean_score: float
    lower_bound: float


class DeploymentRead(BaseModel):
    """One deployment. `has_passing_verdict` is None where no gate applies: a provider's own model.

    `weight_percent` is its share with what people set; `version` counts their settings and goes into `If-Match`.
    """

    id: str
    provider: str
    model: str
    price_key: str
    artefact_digest: str
    weight_percent: int
    is_off: bool
    note: str
    version: int
    tasks: list[str]
    has_passing_verdict: bool | None
    quality: list[QualityRead]


class DeploymentWrite(BaseModel):
    """What people set: off, or a share of subjects. It narrows what policy and switch ledger say, never widens it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    is_off: StrictBool
    weight_percent: Annotated[int, Field(ge=0, le=100, strict=True)] | None = None
    note: Annotated[str, StringConstraints(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """A deployment as policy or registry say it, and what is known and set of it."""

    deployment: Deployment
    has_passing_verdict: bool | None
    override: DeploymentOverride


@router.get(
    "/deployments",
    authentication="user_or_api_key",
    permission=Permission.MODEL_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_deployments(state: State, principal: CurrentPrincipal) -> list[DeploymentRead]:
    """Return the deployments of the policy in force and the organization's own models."""
    of_platform = await platform(state, principal.organization_id)
    async with state.database.begin(principal.organization_id) as session:
        routing = await routing_state(session)
        known = await _known(session, of_platform, routing)
    now = state.clock.now()
    return [_read(one, routing.evidence, now=now) for one in known]


@router.put(
    "/deployments/{deployment_id:path}",
    authentication="user",
    permission=Permission.DEPLOYMENT_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
)
async def set_deployment(
    state: State, principal: CurrentPrincipal, deployment_id: str, write: DeploymentWrite, if_match: IfMatch
) -> DeploymentRead:
    """Switch a deployment off or on, or give it a smaller share, for this organization; gateways follow at once."""
    require_whole_organization(principal)
    of_platform = await platform(state, principal.organization_id)
    async with state.database.begin(principal.organization_id) as session:
        routing = await routing_state(session)
        listed = await _known(session, of_platform, routing)
        known = next((one for one in listed if one.deployment.id == deployment_id), None)
        if known is None:
            raise NotFound("There is no such deployment")
        version = int(if_match.strip('"'))
        wanted = DeploymentOverride(deployment_id, write.is_off, write.weight_percent, write.note, version)
        override = await put_override(session, principal.organization_id, wanted, by=principal.id)
        await audit.append(
            session, actor=principal, action="deployment.set", subject=f"deployment/{deployment_id}",
            details={"is_off": override.is_off, "weight_percent": override.weight_percent, "version": override.version},
        )  # fmt: skip
    return _read(replace(known, override=override), routing.evidence, now=state.clock.now())


async def _known(session: AsyncSession, of_platform: Platform, routing: RoutingState) -> list[_Known]:
    policy = await policy_in_force(session, of_platform)
    found: list[tuple[Deployment, bool | None]] = [(one.deployment(), None) for one in policy.deployments]
    found += [(served_deployment(one.served), one.has_passing_verdict) for one in routing.served]
    return [_Known(one, passing, routing.overrides.get(one.id, DeploymentOverride(one.id))) for one, passing in found]


def _read(known: _Known, evidence: tuple[QualityEvidence, ...], *, now: datetime) -> DeploymentRead:
    narrow, _ = narrowed({known.deployment.id: known.deployment}, {known.deployment.id: known.override})
    deployment = narrow[known.deployment.id]
    own = [one for one in evidence if one.artefact_digest == deployment.artefact_digest]
    return DeploymentRead(
        id=deployment.id,
        provider=deployment.provider,
        model=deployment.model,
        price_key=deployment.price_key,
        artefact_digest=deployment.artefact_digest,
        weight_percent=deployment.weight_percent,
        is_off=known.override.is_off,
        note=known.override.note,
        version=known.override.version,
        tasks=sorted(deployment.tasks),
        has_passing_verdict=known.has_passing_verdict,
        quality=[_quality(task, own, now=now) for task in sorted({one.task for one in own})],
    )


def _quality(task: str, evidence: list[QualityEvidence], *, now: datetime) -> QualityRead:
    of_task = [one for one in evidence if one.task == task]
    known = posterior(of_task, now=now)
    items = sum(one.items for one in of_task)
    return QualityRead(task=task, items=items, mean_score=known.mean, lower_bound=known.lower_bound)
