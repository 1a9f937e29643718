"""How this process's deployments are doing: a circuit breaker for each, and what is seen of them as calls end."""

import random
import time
from dataclasses import replace

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.circuit import Breaker
from auterity_dagster.relaycore.live import LiveFacts, Observation
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

NO_VERDICT = ("rate_limit", "rejected", "credential", "cancelled")
"""Ends of an attempt that say nothing about its deployment's health."""

NOBODYS_FAILURE = ("rejected", "credential", "cancelled")
"""Ends that do not count for the chance that the next call fails."""


class Health:
    """The breakers and live facts of one gateway process."""

    def __init__(self) -> None:
        self._breakers: dict[tuple[str, str | None], Breaker] = {}
        self._live = LiveFacts()

    def seen(self, snapshot: CatalogSnapshot, request: ChatRequest) -> CatalogSnapshot:
        """Return the snapshot with what is seen of its deployments at this moment."""
        names = snapshot.deployments
        live = self._live.view(
            request.caller.organization_id, deployment_ids=names, prefix_digest=request.prefix_digest
        )
        open_ones = frozenset(name for (name, _), one in self._breakers.items() if one.is_open and name in names)
        return replace(snapshot, breaker_open=open_ones, live=live)

    def usual_tokens(self, request: ChatRequest, deployment: Deployment) -> int | None:
        """Return how long nine of ten answers to the request's task are there at most; None with too few to say."""
        return self._live.usual_tokens(request.caller.organization_id, request.task, deployment.id)

    def began(self, policy: SteeringPolicy, deployment: Deployment) -> None:
        """An attempt begins there."""
        self._breaker(policy, deployment).started()
        self._live.began(deployment.id)

    def ended(self, policy: SteeringPolicy, attempt: Attempt, failure: ProviderFailed | None) -> None:
        """An attempt ended, with an answer or with a failure."""
        deployment, request = attempt.step.deployment, attempt.request
        breaker = self._breaker(policy, deployment)
        if failure is None:
            breaker.succeeded(took_s=attempt.latency_ms / 1000)
        elif failure.cause in NO_VERDICT:
            breaker.ended_without_verdict()
        else:
            breaker.failed()
        self._live.ended(
            Observation(
                organization_id=request.caller.organization_id,
                deployment_id=deployment.id,
                task=request.task,
                latency_ms=attempt.latency_ms,
                is_failure=None if failure and failure.cause in NOBODYS_FAILURE else failure is not None,
                completion_tokens=attempt.usage.completion_tokens if attempt.usage else None,
                prefix_digest=request.prefix_digest,
            )
        )

    def _breaker(self, policy: SteeringPolicy, deployment: Deployment) -> Breaker:
        name = deployment.id, deployment.credential
        if name not in self._breakers:
            self._breakers[name] = Breaker(policy.defaults.breaker.limits(), now=time.monotonic, spread=_spread)
        return self._breakers[name]


def _spread() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - spreads replicas apart, guards nothing
