"""Choose where a request goes: rules, filters, then expected cost and quality, then the best that keeps to the limits.

Pure: the same policy, request and snapshot give the same route, so that a stored decision can be replayed.
"""

from dataclasses import replace

from auterity_dagster.errors import NoCandidate, NotFound
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.route import Considered, Route
from auterity_dagster.relaycore.steering_candidates import Candidate, barred, candidate, with_failures
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.relaycore.steering_ranking import (
    barred_for_now,
    missed_limit,
    nothing_left,
    ranked,
    relaxed,
    with_fallbacks,
)
from auterity_dagster.relaycore.steering_rules import (
    Decision,
    binding_budgets,
    budget_effect,
    decide,
    facts_of,
    used_ratio,
)


def choose(policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot) -> Route:
    """Return the route of a request.

    Raises `NotFound` for an unknown model, `NoCandidate` with what removed each deployment, `PriceUnknown` where only
    the price is missing, `BudgetExceeded(code="max_cost_exceeded")` where only the caller's own limit is in the way.
    """
    budgets = binding_budgets(snapshot.budgets, request.caller)
    ratio = used_ratio(budgets)
    decision = decide(policy, facts_of(policy, request, used_ratio=ratio))
    percent, forced_objective = budget_effect(policy, ratio)
    decision = replace(decision, budget_percent=percent)
    if decision.reject is not None:
        raise NoCandidate(decision.reject, rule=decision.rule)
    decision, is_explicit = _with_callers_model(policy, decision, request, snapshot)
    decision = replace(decision, objective=forced_objective or decision.objective)
    objective = policy.objectives[decision.objective]

    considered: dict[str, Considered] = {}
    candidates: list[Candidate] = []
    for position, deployment in enumerate(_members(decision, snapshot)):
        reason = barred(deployment, decision, request, snapshot, is_explicit=is_explicit)
        quality = snapshot.quality_of(deployment, request.task)
        considered[deployment.id] = Considered(deployment.id, reason, quality.mean, quality.lower_bound)
        if reason is None:
            candidates.append(
                candidate(
                    policy, decision, request, snapshot, deployment=deployment, position=position, budgets=budgets
                )
            )
    candidates = with_failures(candidates, snapshot)
    removed = dict(barred_for_now(candidates, snapshot))
    left = [one for one in candidates if one.id not in removed]
    for one in left:
        reason = missed_limit(one, objective, decision, request, is_explicit=is_explicit)
        if reason is not None:
            removed[one.id] = reason
    considered |= {one.id: replace(one.considered(), removed_by=removed.get(one.id)) for one in candidates}

    good = [one for one in left if one.id not in removed]
    order = ranked(good, objective)
    if decision.is_relaxed and not is_explicit:
        order += relaxed(left, good, objective, decision, request)
    if not order:
        reasons = {one.deployment_id: one.removed_by or "not on the route" for one in considered.values()}
        raise nothing_left(reasons, request, rule=decision.rule)
    steps = with_fallbacks(order, max_cost_ratio=policy.defaults.attempts.max_cost_ratio)
    places = {step.deployment.id: place for place, step in enumerate(steps)}
    return Route(
        policy_name=policy.name,
        policy_digest=policy.digest,
        decision=decision,
        steps=steps,
        considered=tuple(replace(one, place=places.get(one.deployment_id)) for one in considered.values()),
    )


def _with_callers_model(
    policy: SteeringPolicy, decision: Decision, request: ChatRequest, snapshot: CatalogSnapshot
) -> tuple[Decision, bool]:
    """Narrow the decision to what the caller's `model` names: an objective, a pool, or one deployment.

    The second value says that one deployment was named, by the caller or by the rule.
    """
    kind, _, name = request.model.partition("/")
    if request.model == "auto":
        return decision, decision.is_named
    if kind == "auto" and name in policy.objectives:
        return replace(decision, objective=name), decision.is_named
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
