"""What removes a deployment before it is compared, and what it would cost, answer and risk if it is not removed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.catalog import BudgetRoom, CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import IMAGE_TOKENS_ESTIMATE, ChatRequest
from auterity_dagster.relaycore.predicted_quality import ExpectedQuality, QualitySource
from auterity_dagster.relaycore.pricing import Price, Usage, bound, cost
from auterity_dagster.relaycore.route import Considered, Step
from auterity_dagster.relaycore.steering_policy import Objective, SteeringPolicy
from auterity_dagster.relaycore.steering_rules import Decision

EXPECTED_OUTPUT_SHARE = 2
"""Answers are taken to use one half of the tokens they are granted, until there are measured lengths."""


@dataclass(slots=True)
class Candidate:
    """A deployment that may answer, while one choice is made: later steps of `choose` fill in what they find.

    `expected_cost_nusd` is the call, and once failures are reckoned what they would add.
    """

    deployment: Deployment
    price: Price
    max_tokens: int
    hold_nusd: NanoUsd
    position: int
    expected_cost_nusd: NanoUsd
    repair_nusd: NanoUsd
    expected_output_tokens: int
    quality_mean: float
    quality_lower_bound: float
    quality_source: QualitySource
    is_measured: bool
    late_probability: float
    is_warm: bool
    load: int
    room_nusd: NanoUsd | None
    removed_by: str | None = None
    is_degraded: bool = False
    is_explored: bool = False

    @property
    def id(self) -> str:
        """The deployment's."""
        return self.deployment.id

    @property
    def score_nusd(self) -> NanoUsd:
        """What `minimize: cost` compares."""
        return self.expected_cost_nusd + self.repair_nusd

    def step(self, request: ChatRequest) -> Step:
        """Return it as a step of a route."""
        return Step(
            deployment=self.deployment,
            price=self.price,
            max_tokens=self.max_tokens,
            hold_nusd=self.hold_nusd,
            prompt_nusd=bound(_prompt_bound(request, self.deployment), 0, self.price),
            is_degraded=self.is_degraded,
            is_explored=self.is_explored,
        )

    def considered(self, *, place: int | None) -> Considered:
        """Return what is told of it."""
        return Considered(
            deployment_id=self.id,
            removed_by=self.removed_by,
            quality_mean=self.quality_mean,
            quality_lower_bound=self.quality_lower_bound,
            expected_cost_nusd=self.expected_cost_nusd,
            repair_nusd=self.repair_nusd,
            expected_output_tokens=self.expected_output_tokens,
            late_probability=self.late_probability,
            place=place,
            quality_source=self.quality_source,
        )


class Rooms:
    """Room in the tightest hard window as last seen, of the caller and of each deployment beside it."""

    def __init__(self, all_budgets: Sequence[BudgetRoom], binding: Sequence[BudgetRoom]) -> None:
        rooms = [one.cap_nusd - one.used_nusd for one in binding if one.is_hard]
        self._callers = min(rooms, default=None)
        self._deployments: dict[str, NanoUsd] = {}
        for one in all_budgets:
            if one.scope == "deployment" and one.is_hard:
                room_nusd = one.cap_nusd - one.used_nusd
                self._deployments[one.value] = min(room_nusd, self._deployments.get(one.value, room_nusd))

    def of(self, deployment: Deployment) -> NanoUsd | None:
        """Return the least room that a call to it has; None where no hard window binds."""
        own_nusd = self._deployments.get(deployment.id)
        if own_nusd is None or self._callers is None:
            return self._callers if own_nusd is None else own_nusd
        return min(own_nusd, self._callers)


def only_in_shadow(deployment: Deployment) -> str | None:
    """Return why a published model that has no share yet answers no caller, also one that names it, or None."""
    has_none = deployment.provider == "served" and deployment.weight_percent == 0
    return "shadow: it answers beside the champion, nobody is given its answer" if has_none else None


def barred(deployment: Deployment, decision: Decision, request: ChatRequest, snapshot: CatalogSnapshot) -> str | None:
    """Return why this deployment may not answer this request at all, or None."""
    if deployment.id in snapshot.unavailable:
        return snapshot.unavailable[deployment.id]
    if not decision.admits(deployment):
        return "filter: a rule's filter does not admit it"
    if deployment.tasks and request.task not in deployment.tasks:
        return "task: specialised for other tasks"
    if request.kind != deployment.capabilities.kind:
        return f"capability: no {request.kind}"
    if request.untranslatable and deployment.wire != request.wire:
        return f"wire: {request.untranslatable[0]} cannot be said on its wire"
    return _incapable(deployment, request) or _unpriced(deployment, snapshot)


def candidate(
    policy: SteeringPolicy,
    decision: Decision,
    request: ChatRequest,
    snapshot: CatalogSnapshot,
    *,
    deployment: Deployment,
    position: int,
    rooms: Rooms,
    quality: ExpectedQuality,
) -> Candidate:
    """Return what is to be expected of a deployment, before the costs of failures are known."""
    price, live = snapshot.prices[deployment.price_key], snapshot.live
    wanted = request.max_tokens or policy.defaults.max_output_tokens
    granted = min(wanted, decision.limits.max_output_tokens or wanted, deployment.capabilities.output_tokens)
    if request.kind == "embedding":
        granted = 0
    measured = live.output_tokens.get(request.task or "", {}).get(deployment.id)
    output = min(-(-granted // EXPECTED_OUTPUT_SHARE) if measured is None else measured, granted)
    task = policy.tasks.get(request.task or "")
    is_warm = deployment.id in live.warm
    limit_ms = policy.objectives[decision.objective].subject_to.latency_ms
    sketch = live.latency.get(deployment.id)
    return Candidate(
        deployment=deployment,
        price=price,
        max_tokens=granted,
        hold_nusd=bound(_prompt_bound(request, deployment), granted, price),
        position=position,
        expected_cost_nusd=_call_cost(request, output, price, deployment, is_warm=is_warm),
        repair_nusd=math.ceil((1 - quality.mean) * task.repair_usd) if task is not None else 0,
        expected_output_tokens=output,
        quality_mean=quality.mean,
        quality_lower_bound=quality.lower_bound,
        quality_source=quality.source,
        is_measured=quality.is_measured,
        late_probability=sketch.share_above(limit_ms) if sketch is not None and limit_ms is not None else 0.0,
        is_warm=is_warm,
        load=live.load.get(deployment.id, 0),
        room_nusd=rooms.of(deployment),
    )


def reckon_failures(candidates: Sequence[Candidate], snapshot: CatalogSnapshot) -> None:
    """Add to each what its failures would cost: their chance times the cheapest of the others."""
    costs = sorted(one.expected_cost_nusd for one in candidates)
    if len(costs) < 2:
        return
    for one in candidates:
        share = snapshot.live.failed_share.get(one.id, 0.0)
        following = costs[1] if one.expected_cost_nusd == costs[0] else costs[0]
        one.expected_cost_nusd += math.ceil(share * following)


def clamped(step: Step, request: ChatRequest, *, max_tokens: int) -> Step:
    """Return the same step with fewer output tokens, and the smaller hold that covers them."""
    hold_nusd = bound(_prompt_bound(request, step.deployment), max_tokens, step.price)
    return replace(step, max_tokens=max_tokens, hold_nusd=hold_nusd)


def _incapable(deployment: Deployment, request: ChatRequest) -> str | None:
    can = deployment.capabilities
    if request.has_tools and not can.tools:
        return "capability: no tools"
    if request.has_images and not can.image_tokens:
        return "capability: no images"
    if request.needs_json and not can.json_schema:
        return "capability: no JSON schema"
    if request.is_stream and not can.streaming:
        return "capability: no streaming"
    if _prompt_estimate(request, deployment) + (request.max_tokens or 1) > can.context_tokens:
        return f"capability: context of {can.context_tokens} tokens"
    if (request.max_tokens or 0) > can.output_tokens:
        return f"capability: output of {can.output_tokens} tokens"
    return None


def _unpriced(deployment: Deployment, snapshot: CatalogSnapshot) -> str | None:
    is_priced = deployment.price_key in snapshot.prices
    return None if is_priced else f"price: none is in force for {deployment.price_key}"


def _prompt_bound(request: ChatRequest, deployment: Deployment) -> int:
    return request.prompt_tokens_bound + request.images * deployment.capabilities.image_tokens


def _prompt_estimate(request: ChatRequest, deployment: Deployment) -> int:
    return request.prompt_tokens_estimate + request.images * min(
        deployment.capabilities.image_tokens, IMAGE_TOKENS_ESTIMATE
    )


def _call_cost(request: ChatRequest, output: int, price: Price, deployment: Deployment, *, is_warm: bool) -> NanoUsd:
    """What one answered call costs: a beginning that is still cached at its own rate, or written to the cache anew."""
    prompt = _prompt_estimate(request, deployment)
    rates = price.tiers[0]
    prefix = min(request.prefix_tokens, prompt)
    if is_warm and rates.cache_read is not None:
        return cost(Usage(prompt, output, cache_read_tokens=prefix), price)
    if prefix and deployment.capabilities.prompt_cache == "automatic" and rates.cache_write_5m is not None:
        return cost(Usage(prompt, output, cache_write_5m_tokens=prefix), price)
    return cost(Usage(prompt, output), price)


def floor_of(objective: Objective, decision: Decision, request: ChatRequest, *, is_relaxed: bool) -> float:
    """Return the lower bound of quality that is demanded; relaxed, only by the caller and the rules' `set`."""
    own = None if is_relaxed else objective.subject_to.quality_lcb
    floors = (request.quality_min, decision.limits.quality_lcb, own)
    return max((one for one in floors if one is not None), default=0.0)
