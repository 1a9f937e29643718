"""Where models can be called, and how good each is known to be at which task."""

import asyncio
from datetime import datetime

from pydantic import BaseModel

from auterity_dagster.identity.permission import Permission
from auterity_dagster.relaycore.catalog import Deployment, served_deployment
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.quality import QualityEvidence, posterior
from auterity_dagster.relaycore.steering_file import load_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories.routing import routing_state

router = DeclaredRouter(tags=["Deployments"])


class QualityRead(BaseModel):
    """What is known of a deployment at one task; routing trusts `lower_bound`, the 5 % quantile.

    `items` are evaluated items and labels together, `mean_score` the posterior's mean.
    """

    task: str
    items: float
    mean_score: float
    lower_bound: float


class DeploymentRead(BaseModel):
    """One deployment. `has_passing_verdict` is None where no gate applies: a provider's own model."""

    id: str
    provider: str
    model: str
    price_key: str
    artefact_digest: str
    weight_percent: int
    tasks: list[str]
    has_passing_verdict: bool | None
    quality: list[QualityRead]


@router.get(
    "/deployments",
    authentication="user_or_api_key",
    permission=Permission.MODEL_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def list_deployments(state: State, principal: CurrentPrincipal) -> list[DeploymentRead]:
    """Return the policy's deployments and the organization's own models."""
    policy = await asyncio.to_thread(_policy, state)
    async with state.database.begin(principal.organization_id) as session:
        routing = await routing_state(session)
    known: list[tuple[Deployment, bool | None]] = [(one.deployment(), None) for one in policy.deployments]
    known += [(served_deployment(one.served), one.has_passing_verdict) for one in routing.served]
    now = state.clock.now()
    return [_read(deployment, passing, routing.evidence, now=now) for deployment, passing in known]


def _read(
    deployment: Deployment,
    has_passing_verdict: bool | None,
    evidence: tuple[QualityEvidence, ...],
    *,
    now: datetime,
) -> DeploymentRead:
    own = [one for one in evidence if one.artefact_digest == deployment.artefact_digest]
    return DeploymentRead(
        id=deployment.id,
        provider=deployment.provider,
        model=deployment.model,
        price_key=deployment.price_key,
        artefact_digest=deployment.artefact_digest,
        weight_percent=deployment.weight_percent,
        tasks=sorted(deployment.tasks),
        has_passing_verdict=has_passing_verdict,
        quality=[_quality(task, own, now=now) for task in sorted({one.task for one in own})],
    )


def _quality(task: str, evidence: list[QualityEvidence], *, now: datetime) -> QualityRead:
    of_task = [one for one in evidence if one.task == task]
    known = posterior(of_task, now=now)
    items = sum(one.items for one in of_task)
    return QualityRead(task=task, items=items, mean_score=known.mean, lower_bound=known.lower_bound)


def _policy(state: ApiState) -> SteeringPolicy:
    """Read the policy that the gateways read."""
    folder, now = state.settings.config_dir, state.clock.now()
    prices = load_prices(folder / "prices.yaml").all_in_force(now)
    return load_policy(folder / "steering.yaml", prices=prices)
