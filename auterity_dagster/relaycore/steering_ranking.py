"""Which candidates keep to the limits, in which order they are tried, and what is said when none is left."""

from collections.abc import Mapping, Sequence

from auterity_dagster.errors import AuterityError, BudgetExceeded, Invalid, NoCandidate, PriceUnknown
from auterity_dagster.money import in_usd
from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.steering_candidates import Candidate, floor_of
from auterity_dagster.relaycore.steering_policy import Objective
from auterity_dagster.relaycore.steering_rules import Decision

MAX_FALLBACKS = 3
_PASSING = frozenset({"breaker", "lease", "budget", "late"})
"""Kinds of reasons that pass by themselves: the same request may be answered a little later."""

_FIELD_OF_CAPABILITY = {
    "tools": "tools",
    "images": "messages",
    "JSON schema": "response_format",
    "streaming": "stream",
    "chat": "model",
    "embedding": "model",
}
NEAR_PERCENT = 2
"""Candidates this close to the best are equal: then a warm prompt cache counts, then the load."""


def barred_for_now(candidates: Sequence[Candidate], snapshot: CatalogSnapshot) -> Mapping[str, str]:
    """Return those that an open breaker or a full budget bars, and why: neither bars the last that is left.

    Room is as last seen: where no candidate has any, the hold decides, which counts exactly.
    """
    open_ones = {one.id: "breaker: open after failures" for one in candidates if one.id in snapshot.breaker_open}
    removed = open_ones if len(open_ones) < len(candidates) else {}
    rest = [one for one in candidates if one.id not in removed]
    full = {
        one.id: f"budget: may cost ${in_usd(one.hold_nusd)}, the tightest window has ${in_usd(one.room_nusd)}"
        for one in rest
        if one.room_nusd is not None and one.hold_nusd > one.room_nusd
    }
    return {**removed, **full} if len(full) < len(rest) else removed


def missed_limit(
    candidate: Candidate, objective: Objective, decision: Decision, request: ChatRequest, *, is_explicit: bool
) -> str | None:
    """Return which limit a candidate misses; one asked for by name has only the caller's and those of rules' `set`."""
    too_dear = _too_dear(candidate, objective, decision, request, is_explicit=is_explicit)
    if too_dear is not None:
        return too_dear
    limits = objective.subject_to
    chance = limits.late_probability
    if not is_explicit and chance is not None and candidate.late_probability > chance:
        return f"late: {candidate.late_probability:.1%} take over {limits.latency_ms} ms, {chance:.1%} may"
    floor = floor_of(objective, decision, request, is_relaxed=is_explicit)
    if candidate.quality_lower_bound < floor:
        return f"quality: lower bound {candidate.quality_lower_bound:.3f} is below {floor:.3f}"
    return None


def may_be_tried(
    candidate: Candidate, upper_bound: float, objective: Objective, decision: Decision, request: ChatRequest
) -> bool:
    """True if a candidate may turn out good enough, and keeps to every limit that only what is known can answer.

    What the caller or a rule's `set` demands of quality is a promise, and holds for the lower bound here as well.
    """
    limits = objective.subject_to
    is_late = limits.late_probability is not None and candidate.late_probability > limits.late_probability
    return (
        not is_late
        and _too_dear(candidate, objective, decision, request, is_explicit=False) is None
        and upper_bound >= floor_of(objective, decision, request, is_relaxed=False)
        and candidate.quality_lower_bound >= floor_of(objective, decision, request, is_relaxed=True)
    )


def ranked(good: Sequence[Candidate], objective: Objective) -> list[Candidate]:
    """Return the candidates in order of the objective; of those within 2 % of the best, warm and idle ones first."""
    if objective.maximize == "quality":
        order = sorted(good, key=lambda one: (-round(one.quality_mean, 3), one.position))
    else:
        order = sorted(good, key=lambda one: (one.score_nusd, -one.quality_lower_bound, one.position))
    if not order:
        return []
    first = min(_near(order, objective), key=lambda one: (not one.is_warm, one.load))
    return [first, *(one for one in order if one is not first)]


def relaxed(
    candidates: Sequence[Candidate], objective: Objective, decision: Decision, request: ChatRequest
) -> list[Candidate]:
    """Those below the quality floor, best lower bound first; where nothing is known of any, the pool's order."""
    floor = floor_of(objective, decision, request, is_relaxed=True)
    spare = [
        one
        for one in candidates
        if one.removed_by is not None
        and one.quality_lower_bound >= floor
        and _too_dear(one, objective, decision, request, is_explicit=False) is None
    ]
    spare.sort(key=lambda one: (-round(one.quality_lower_bound, 3), one.position))
    for one in spare:
        one.is_degraded = True
    return spare


def with_fallbacks(ranked: Sequence[Candidate], *, max_cost_ratio: float) -> list[Candidate]:
    """The choice and at most three more, other failure domains first, none dearer than the ratio allows."""
    first, *others = ranked
    affordable = [one for one in others if one.expected_cost_nusd <= max_cost_ratio * first.expected_cost_nusd]
    domain = first.deployment.failure_domain
    affordable.sort(key=lambda one: (one.is_degraded, one.deployment.failure_domain == domain))
    return [first, *affordable[:MAX_FALLBACKS]]


def nothing_left(reasons: Mapping[str, str], request: ChatRequest, *, rule: str) -> AuterityError:
    """Return the error that fits what removed the deployments."""
    kinds = {reason.partition(":")[0] for reason in reasons.values()}
    if kinds == {"max_cost"}:
        return BudgetExceeded(
            "Every deployment that may answer can cost more than x-auterity-max-cost-usd or the policy allows.",
            code="max_cost_exceeded",
            rule=rule,
            removed=reasons,
        )
    if kinds == {"price"}:
        return PriceUnknown("No price is in force for any deployment that may answer.", rule=rule, removed=reasons)
    if "wire" in kinds and kinds <= {"wire", "capability", "task"}:
        field = request.untranslatable[0]
        message = f"{field} cannot be said on the wire of any deployment that may answer."
        return Invalid(message, code="unsupported_parameter", field=field, rule=rule, removed=reasons)
    lacking = {reason.removeprefix("capability: no ") for reason in reasons.values()}
    field = _FIELD_OF_CAPABILITY.get(lacking.pop()) if len(lacking) == 1 else None
    if field is not None:
        message = f"No deployment that may answer takes {field}."
        return Invalid(message, code="unsupported_parameter", field=field, rule=rule, removed=reasons)
    if all(reason.startswith("capability: context ") for reason in reasons.values()):
        message = "The prompt and its answer are longer than any deployment that may answer can take."
        return Invalid(message, code="context_length_exceeded", field="messages", rule=rule, removed=reasons)
    if "quality" in kinds and request.quality_min is not None and not kinds & _PASSING:
        message = "No deployment that may answer is surely as good as x-auterity-quality-min asks."
        field = "x-auterity-quality-min"
        return Invalid(message, code="quality_unavailable", field=field, rule=rule, removed=reasons)
    message = "No deployment may answer this request; details.removed says why."
    return NoCandidate(message, rule=rule, removed=reasons)


def _near(order: Sequence[Candidate], objective: Objective) -> list[Candidate]:
    """Those as good as the first. Where nothing is known of its quality, only the operator's order counts."""
    best = order[0]
    if objective.maximize == "quality":
        least = best.quality_mean * (100 - NEAR_PERCENT) / 100
        return [one for one in order if one is best or (best.is_measured and one.quality_mean >= least)]
    return [one for one in order if one.score_nusd * 100 <= best.score_nusd * (100 + NEAR_PERCENT)]


def _too_dear(
    candidate: Candidate, objective: Objective, decision: Decision, request: ChatRequest, *, is_explicit: bool
) -> str | None:
    limits = [one for one in (request.max_cost_nusd, decision.limits.max_cost_usd) if one is not None]
    if limits and candidate.hold_nusd > min(limits):
        return f"max_cost: may cost ${in_usd(candidate.hold_nusd)}, ${in_usd(min(limits))} is allowed"
    cap = objective.subject_to.cost_usd
    if not is_explicit and cap is not None and candidate.expected_cost_nusd > cap:
        return f"cost: ${in_usd(candidate.expected_cost_nusd)} expected, the objective allows ${in_usd(cap)}"
    return None
