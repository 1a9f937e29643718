"""What removes a deployment before it is compared, and what it would cost, answer and risk if it is not removed."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.catalog import BudgetRoom, CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import IMAGE_TOKENS_ESTIMATE, ChatRequest
from auterity_dagster.relaycore.pricing import Price, Usage, bound, cost
from auterity_dagster.relaycore.route import Considered, Step
from auterity_dagster.relaycore.steering_policy import Objective, SteeringPolicy
from auterity_dagster.relaycore.steering_rules import Decision

EXPECTED_OUTPUT_SHARE = 2
"""Answers are taken to use one half of the tokens they are granted, until there are measured lengths."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may answer. `expected_cost_nusd` is the call with what its failures would add."""

    step: Step
    position: int
    expected_cost_nusd: NanoUsd
    repair_nusd: NanoUsd
    expected_output_tokens: int
    quality_mean: float
    quality_lower_bound: float
    is_measured: bool
    late_probability: float
    is_warm: bool
    load: int
    room_nusd: NanoUsd | None

    @property
    def id(self) -> str:
        """The deployment's."""
        return self.step.deployment.id

    @property
    def score_nusd(self) -> NanoUsd:
        """What `minimize: cost` compares."""
        return self.expected_cost_nusd + self.repair_nusd

    def considered(self) -> Considered:
        """Return what is told of it; nothing removed it so far."""
        return Considered(
            deployment_id=self.id,
            removed_by=None,
            quality_mean=self.quality_mean,
            quality_lower_bound=self.quality_lower_bound,
            expected_cost_nusd=self.expected_cost_nusd,
            repair_nusd=self.repair_nusd,
            expected_output_tokens=self.expected_output_tokens,
            late_probability=self.late_probability,
        )


def barred(
    deployment: Deployment, decision: Decision, request: ChatRequest, snapshot: CatalogSnapshot, *, is_explicit: bool
) -> str | None:
    """Return why this deployment may not answer this request at all, or None."""
    can = deployment.capabilities
    prompt_and_answer = _prompt_estimate(request, deployment) + (request.max_tokens or 1)
    speaks_otherwise = deployment.wire != request.wire and bool(request.untranslatable)
    checks = (
        (deployment.id in snapshot.unavailable, snapshot.unavailable.get(deployment.id, "")),
        (not decision.admits(deployment), "filter: a rule's filter does not admit it"),
        (not is_explicit and not _has_share(deployment, request), "canary: outside its share"),
        (bool(deployment.tasks) and request.task not in deployment.tasks, "task: specialised for other tasks"),
        (request.kind != can.kind, f"capability: no {request.kind}"),
        (speaks_otherwise, f"wire: {request.untranslatable[0] if speaks_otherwise else ''} cannot be said on its wire"),
        (request.has_tools and not can.tools, "capability: no tools"),
        (request.has_images and not can.image_tokens, "capability: no images"),
        (request.needs_json and not can.json_schema, "capability: no JSON schema"),
        (request.is_stream and not can.streaming, "capability: no streaming"),
        (prompt_and_answer > can.context_tokens, f"capability: context of {can.context_tokens} tokens"),
        ((request.max_tokens or 0) > can.output_tokens, f"capability: output of {can.output_tokens} tokens"),
        (deployment.price_key not in snapshot.prices, f"price: none is in force for {deployment.price_key}"),
    )
    return next((reason for is_barred, reason in checks if is_barred), None)


def candidate(
    policy: SteeringPolicy,
    decision: Decision,
    request: ChatRequest,
    snapshot: CatalogSnapshot,
    *,
    deployment: Deployment,
    position: int,
    budgets: Sequence[BudgetRoom],
) -> Candidate:
    """Return what is to be expected of a deployment, before the costs of failures are known."""
    price, live = snapshot.prices[deployment.price_key], snapshot.live
    wanted = request.max_tokens or policy.defaults.max_output_tokens
    granted = min(wanted, decision.limits.max_output_tokens or wanted, deployment.capabilities.output_tokens)
    if request.kind == "embedding":
        granted = 0
    prompt_bound = _prompt_bound(request, deployment)
    step = Step(
        deployment=deployment,
        price=price,
        max_tokens=granted,
        hold_nusd=bound(prompt_bound, granted, price),
        prompt_nusd=bound(prompt_bound, 0, price),
        is_degraded=False,
    )
    measured = live.output_tokens.get(request.task or "", {}).get(deployment.id)
    output = min(-(-granted // EXPECTED_OUTPUT_SHARE) if measured is None else measured, granted)
    quality = snapshot.quality_of(deployment, request.task)
    task = policy.tasks.get(request.task or "")
    is_warm = deployment.id in live.warm
    limit_ms = policy.objectives[decision.objective].subject_to.latency_ms
    sketch = live.latency.get(deployment.id)
    return Candidate(
        step=step,
        position=position,
        expected_cost_nusd=_call_cost(request, output, price, deployment, is_warm=is_warm),
        repair_nusd=math.ceil((1 - quality.mean) * task.repair_usd) if task is not None else 0,
        expected_output_tokens=output,
        quality_mean=quality.mean,
        quality_lower_bound=quality.lower_bound,
        is_measured=quality.alpha + quality.beta > 2,
        late_probability=sketch.share_above(limit_ms) if sketch is not None and limit_ms is not None else 0.0,
        is_warm=is_warm,
        load=live.load.get(deployment.id, 0),
        room_nusd=_room(deployment, snapshot.budgets, budgets),
    )


def with_failures(candidates: Sequence[Candidate], snapshot: CatalogSnapshot) -> list[Candidate]:
    """Add to each what its failures would cost: their chance times the cheapest of the others."""
    costs = sorted(one.expected_cost_nusd for one in candidates)
    if len(costs) < 2:
        return list(candidates)
    reckoned: list[Candidate] = []
    for one in candidates:
        following = costs[1] if one.expected_cost_nusd == costs[0] else costs[0]
        extra = math.ceil(snapshot.live.failed_share.get(one.id, 0.0) * following)
        reckoned.append(replace(one, expected_cost_nusd=one.expected_cost_nusd + extra))
    return reckoned


def clamped(step: Step, request: ChatRequest, *, max_tokens: int) -> Step:
    """Return the same step with fewer output tokens, and the smaller hold that covers them."""
    hold_nusd = bound(_prompt_bound(request, step.deployment), max_tokens, step.price)
    return replace(step, max_tokens=max_tokens, hold_nusd=hold_nusd)


def _prompt_bound(request: ChatRequest, deployment: Deployment) -> int:
    return request.prompt_tokens_bound + request.images * deployment.capabilities.image_tokens


def _prompt_estimate(request: ChatRequest, deployment: Deployment) -> int:
    return request.prompt_tokens_estimate + request.images * min(
        deployment.capabilities.image_tokens, IMAGE_TOKENS_ESTIMATE
    )


def _has_share(deployment: Deployment, request: ChatRequest) -> bool:
    """A canary answers the same subjects every time: the hash of subject and digest says whether it is one of them."""
    if deployment.weight_percent >= 100:
        return True
    seed = f"{request.subject or request.id}|{deployment.artefact_digest}"
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % 100 < deployment.weight_percent


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


def _room(deployment: Deployment, all_budgets: Sequence[BudgetRoom], binding: Sequence[BudgetRoom]) -> NanoUsd | None:
    """Room in the tightest hard window as last seen; None without one."""
    own = (one for one in all_budgets if one.scope == "deployment" and one.value == deployment.id)
    return min((one.cap_nusd - one.used_nusd for one in (*binding, *own) if one.is_hard), default=None)


def floor_of(objective: Objective, decision: Decision, request: ChatRequest, *, is_relaxed: bool) -> float:
    """Return the lower bound of quality that is demanded; relaxed, only by the caller and the rules' `set`."""
    own = None if is_relaxed else objective.subject_to.quality_lcb
    floors = (request.quality_min, decision.limits.quality_lcb, own)
    return max((one for one in floors if one is not None), default=0.0)
