"""Choose where a request goes: filters, then expected cost and quality, then the cheapest that is good enough.

Pure: the same policy, request and snapshot give the same route, so that a stored decision can be replayed.
"""

import hashlib
from dataclasses import dataclass, replace

from auterity_dagster.errors import BudgetExceeded, Invalid, NoCandidate, NotFound, PriceUnknown
from auterity_dagster.money import NanoUsd, in_usd
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.pricing import Price, Usage, bound, cost
from auterity_dagster.relaycore.steering_policy import Cause, Objective, SteeringPolicy
from auterity_dagster.relaycore.steering_rules import Decision, decide, facts_of

MAX_FALLBACKS = 3
EXPECTED_OUTPUT_SHARE = 2
"""Answers are taken to use one half of the tokens they are granted, until measured lengths replace this."""


@dataclass(frozen=True, slots=True)
class Considered:
    """One deployment that was looked at. `removed_by` is None for those that could have answered."""

    deployment_id: str
    removed_by: str | None
    quality_mean: float
    quality_lower_bound: float
    expected_cost_nusd: NanoUsd | None = None
    place: int | None = None
    """0 for the choice, 1 for the first fallback; None for those that are not on the route."""


@dataclass(frozen=True, slots=True)
class Step:
    """One deployment of a route, what it is granted, and the amount that one attempt cannot exceed."""

    deployment: Deployment
    price: Price
    max_tokens: int
    hold_nusd: NanoUsd
    prompt_nusd: NanoUsd
    is_degraded: bool


@dataclass(frozen=True, slots=True)
class Route:
    """The plan of a request: the choice and its fallbacks, in order, and why."""

    policy_name: str
    policy_digest: str
    rule: str
    objective: str
    steps: tuple[Step, ...]
    considered: tuple[Considered, ...]
    fallback_on: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    step: Step
    position: int
    expected_cost_nusd: NanoUsd
    quality_mean: float
    quality_lower_bound: float


def choose(policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot) -> Route:
    """Return the route of a request.

    Raises `NotFound` for an unknown model, `NoCandidate` with what removed each deployment, `PriceUnknown` where only
    the price is missing, `BudgetExceeded(code="max_cost_exceeded")` where only the caller's own limit is in the way.
    """
    decision = decide(policy, facts_of(request))
    if decision.reject is not None:
        raise NoCandidate(decision.reject, rule=decision.rule)
    decision, is_explicit = _with_callers_model(policy, decision, request, snapshot)
    objective = policy.objectives[decision.objective]
    candidates: list[_Candidate] = []
    considered: list[Considered] = []
    for position, deployment in enumerate(_members(decision, snapshot)):
        quality = snapshot.quality_of(deployment, request.task)
        looked_at = Considered(deployment.id, None, quality.mean, quality.lower_bound)
        reason = _barred(deployment, decision, request, snapshot, is_explicit=is_explicit)
        price = snapshot.prices.get(deployment.price_key)
        if reason is not None or price is None:
            reason = reason or f"price: none is in force for {deployment.price_key}"
            considered.append(replace(looked_at, removed_by=reason))
            continue
        candidate = _candidate(policy, decision, request, deployment, price, position=position, considered=looked_at)
        considered.append(replace(looked_at, expected_cost_nusd=candidate.expected_cost_nusd))
        candidates.append(candidate)
    candidates = _without_open_breakers(candidates, considered, snapshot)
    good = [one for one in candidates if not _misses(one, objective, request, considered, is_explicit=is_explicit)]
    ranked = sorted(good, key=lambda one: _rank(one, objective))
    if decision.is_relaxed and not is_explicit and request.quality_min is None:
        ranked += _relaxed(candidates, good, objective, request)
    if not ranked:
        raise _nothing_left(considered, request)
    steps = _with_fallbacks(ranked, max_cost_ratio=policy.defaults.attempts.max_cost_ratio)
    places = {step.deployment.id: place for place, step in enumerate(steps)}
    return Route(
        policy_name=policy.name,
        policy_digest=policy.digest,
        rule=decision.rule,
        objective=decision.objective,
        steps=steps,
        considered=tuple(replace(one, place=places.get(one.deployment_id)) for one in considered),
        fallback_on=decision.fallback_on,
    )


def _with_callers_model(
    policy: SteeringPolicy, decision: Decision, request: ChatRequest, snapshot: CatalogSnapshot
) -> tuple[Decision, bool]:
    """Narrow the decision to what the caller's `model` names: an objective, a pool, or one deployment."""
    kind, _, name = request.model.partition("/")
    if request.model == "auto":
        return decision, False
    if kind == "auto" and name in policy.objectives:
        return replace(decision, objective=name), False
    if kind == "pool" and name in policy.pools:
        members = policy.pools[name]
    elif request.model in snapshot.deployments:
        members = (request.model,)
    else:
        raise NotFound(
            f"There is no model {request.model!r}; GET /v1/models lists them.", code="model_not_found", field="model"
        )
    if decision.is_final:
        members = tuple(one for one in members if decision.names(one))
    return replace(decision, members=members), kind != "pool"


def _members(decision: Decision, snapshot: CatalogSnapshot) -> list[Deployment]:
    """The deployments of the pool in its order; served ones stand where the pattern stands."""
    found: dict[str, Deployment] = {}
    for member in decision.members:
        prefix = member.removesuffix("*")
        named = [member] if prefix == member else sorted(one for one in snapshot.deployments if one.startswith(prefix))
        found.update({one: snapshot.deployments[one] for one in named if one in snapshot.deployments})
    return list(found.values())


def _barred(
    deployment: Deployment,
    decision: Decision,
    request: ChatRequest,
    snapshot: CatalogSnapshot,
    *,
    is_explicit: bool,
) -> str | None:
    """Why this deployment may not answer this request at all, or None."""
    can = deployment.capabilities
    prompt_and_answer = request.prompt_tokens_estimate + request.images * can.image_tokens + (request.max_tokens or 1)
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
    )
    return next((reason for is_barred, reason in checks if is_barred), None)


def _has_share(deployment: Deployment, request: ChatRequest) -> bool:
    """A canary answers the same subjects every time: the hash of subject and digest says whether it is one of them."""
    if deployment.weight_percent >= 100:
        return True
    seed = f"{request.subject or request.id}|{deployment.artefact_digest}"
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % 100 < deployment.weight_percent


def _candidate(
    policy: SteeringPolicy,
    decision: Decision,
    request: ChatRequest,
    deployment: Deployment,
    price: Price,
    *,
    position: int,
    considered: Considered,
) -> _Candidate:
    wanted = request.max_tokens or policy.defaults.max_output_tokens
    granted = min(wanted, decision.max_output_tokens or wanted, deployment.capabilities.output_tokens)
    if request.kind == "embedding":
        granted = 0
    image_tokens = request.images * deployment.capabilities.image_tokens
    prompt_bound = request.prompt_tokens_bound + image_tokens
    expected = Usage(request.prompt_tokens_estimate + image_tokens, -(-granted // EXPECTED_OUTPUT_SHARE))
    step = Step(
        deployment=deployment,
        price=price,
        max_tokens=granted,
        hold_nusd=bound(prompt_bound, granted, price),
        prompt_nusd=bound(prompt_bound, 0, price),
        is_degraded=False,
    )
    return _Candidate(step, position, cost(expected, price), considered.quality_mean, considered.quality_lower_bound)


def _without_open_breakers(
    candidates: list[_Candidate], considered: list[Considered], snapshot: CatalogSnapshot
) -> list[_Candidate]:
    """Leave out deployments whose breaker is open, unless nothing else is left."""
    closed = [one for one in candidates if one.step.deployment.id not in snapshot.breaker_open]
    if not closed:
        return candidates
    for one in candidates:
        if one not in closed:
            _remove(considered, one, "breaker: open after failures")
    return closed


def _misses(
    candidate: _Candidate,
    objective: Objective,
    request: ChatRequest,
    considered: list[Considered],
    *,
    is_explicit: bool,
) -> bool:
    """Check the limits and record the one that is missed; a deployment asked for by name has only the caller's."""
    reason = _too_dear(candidate, objective, request, is_explicit=is_explicit)
    floors = (request.quality_min, None if is_explicit else objective.subject_to.quality_lcb)
    floor = max((one for one in floors if one is not None), default=0.0)
    if reason is None and candidate.quality_lower_bound < floor:
        reason = f"quality: lower bound {candidate.quality_lower_bound:.3f} is below {floor:.3f}"
    if reason is not None:
        _remove(considered, candidate, reason)
    return reason is not None


def _too_dear(candidate: _Candidate, objective: Objective, request: ChatRequest, *, is_explicit: bool) -> str | None:
    limit, cap = request.max_cost_nusd, objective.subject_to.cost_usd
    if limit is not None and candidate.step.hold_nusd > limit:
        return f"max_cost: may cost ${in_usd(candidate.step.hold_nusd)}, the caller allows ${in_usd(limit)}"
    if not is_explicit and cap is not None and candidate.expected_cost_nusd > cap:
        return f"cost: ${in_usd(candidate.expected_cost_nusd)} expected, the objective allows ${in_usd(cap)}"
    return None


def _rank(candidate: _Candidate, objective: Objective) -> tuple[float, float, int]:
    if objective.maximize == "quality":
        return (-round(candidate.quality_mean, 3), candidate.position, 0)
    return (candidate.expected_cost_nusd, -candidate.quality_lower_bound, candidate.position)


def _relaxed(
    candidates: list[_Candidate], good: list[_Candidate], objective: Objective, request: ChatRequest
) -> list[_Candidate]:
    """Those below the quality floor, best lower bound first; where nothing is known of any, the pool's order."""
    spare = [one for one in candidates if one not in good]
    spare = [one for one in spare if _too_dear(one, objective, request, is_explicit=False) is None]
    spare.sort(key=lambda one: (-round(one.quality_lower_bound, 3), one.position))
    return [replace(one, step=replace(one.step, is_degraded=True)) for one in spare]


def _with_fallbacks(ranked: list[_Candidate], *, max_cost_ratio: float) -> tuple[Step, ...]:
    """The choice and at most three more, other failure domains first, none dearer than the ratio allows."""
    first, *others = ranked
    affordable = [one for one in others if one.expected_cost_nusd <= max_cost_ratio * first.expected_cost_nusd]
    domain = first.step.deployment.failure_domain
    affordable.sort(key=lambda one: (one.step.is_degraded, one.step.deployment.failure_domain == domain))
    return tuple(one.step for one in (first, *affordable[:MAX_FALLBACKS]))


def _remove(considered: list[Considered], candidate: _Candidate, reason: str) -> None:
    for index, one in enumerate(considered):
        if one.deployment_id == candidate.step.deployment.id:
            considered[index] = replace(one, removed_by=reason)


def _nothing_left(considered: list[Considered], request: ChatRequest) -> Exception:
    """The error that fits what removed the deployments."""
    reasons = {one.deployment_id: one.removed_by or "not on the route" for one in considered}
    kinds = {reason.partition(":")[0] for reason in reasons.values()}
    if kinds == {"max_cost"}:
        return BudgetExceeded(
            "Every deployment that may answer can cost more than x-auterity-max-cost-usd allows.",
            code="max_cost_exceeded",
            removed=reasons,
        )
    if kinds == {"price"}:
        return PriceUnknown("No price is in force for any deployment that may answer.", removed=reasons)
    if "wire" in kinds and kinds <= {"wire", "capability", "task"}:
        field = request.untranslatable[0]
        return Invalid(
            f"{field} cannot be said on the wire of any deployment that may answer.",
            code="unsupported_parameter",
            field=field,
            removed=reasons,
        )
    if kinds == {"capability"} and request.has_images:
        return Invalid("No deployment takes images.", code="unsupported_parameter", field="messages")
    return NoCandidate("No deployment may answer this request; details.removed says why.", removed=reasons)
