"""Choose where a request goes: rules, filters, then expected cost and quality, then the best that keeps to the limits.

Pure: the same policy, request and snapshot give the same route, so that a stored decision can be replayed.
"""

from dataclasses import replace

from auterity_dagster.errors import NoCandidate, NotFound
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.predicted_quality import QualityPrediction, chooser, expected_quality
from auterity_dagster.relaycore.route import Considered, Route
from auterity_dagster.relaycore.steering_candidates import (
    Candidate,
    Rooms,
    barred,
    candidate,
    only_in_shadow,
    reckon_failures,
)
from auterity_dagster.relaycore.steering_exploration import with_draws
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
from auterity_dagster.relaycore.steering_split import NO_SPLIT, OUTSIDE_ITS_SHARE, split_of


def choose(policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot) -> Route:
    """Return the route of a request, by what the policy lets a predictor say.

    The errors of `choose_by`.
    """
    return choose_by(chooser(policy.defaults.predictor, snapshot.predictions), policy, request, snapshot)


def choose_by(
    prediction: QualityPrediction | None, policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot
) -> Route:
    """Return the route of a request where this prediction stands in for the posterior (None: nothing does).

    Raises `NotFound` for an unknown model, `NoCandidate` with what removed each deployment, `PriceUnknown` where only
    the price is missing, `BudgetExceeded(code="max_cost_exceeded")` where only the caller's own limit is in the way.
    """
    budgets = binding_budgets(snapshot.budgets, request.caller)
    ratio = used_ratio(budgets)
    decision = decide(policy, facts_of(policy, request, used_ratio=ratio))
    if decision.reject is not None:
        raise NoCandidate(decision.reject, rule=decision.rule)
    decision, is_explicit = _with_callers_model(policy, decision, request, snapshot)
    percent, forced_objective = budget_effect(policy, ratio)
    if percent is not None:
        objective_name = forced_objective or decision.objective
        decision = replace(decision, budget_percent=percent, objective=objective_name)
    objective = policy.objectives[decision.objective]

    rooms = Rooms(snapshot.budgets, budgets)
    considered: list[Considered | Candidate] = []
    members = _members(decision, snapshot)
    split = NO_SPLIT if is_explicit else split_of(members, request)
    for position, deployment in enumerate(members):
        reason = only_in_shadow(deployment) or barred(deployment, decision, request, snapshot)
        known = snapshot.quality_of(deployment, request.task)
        quality = expected_quality(known, deployment.artefact_digest, prediction)
        if reason is None:
            found = candidate(
                policy,
                decision,
                request,
                snapshot,
                deployment=deployment,
                position=position,
                rooms=rooms,
                quality=quality,
            )
            found.removed_by = OUTSIDE_ITS_SHARE if split.excludes(deployment) else None
        else:
            mean, bound, source = quality.mean, quality.lower_bound, quality.source
            found = Considered(deployment.id, reason, mean, bound, quality_source=source)
        considered.append(found)
    candidates = [one for one in considered if isinstance(one, Candidate) and one.removed_by is None]
    reckon_failures(candidates, snapshot)
    removed = barred_for_now(candidates, snapshot)
    left: list[Candidate] = []
    for one in candidates:
        one.removed_by = removed.get(one.id)
        if one.removed_by is None:
            left.append(one)
            one.removed_by = missed_limit(one, objective, decision, request, is_explicit=is_explicit)

    order = ranked([one for one in left if one.removed_by is None], objective)
    if split.mine is not None:
        order.sort(key=lambda one: one.id != split.mine)
    if decision.is_relaxed and not is_explicit:
        order += relaxed(left, objective, decision, request)
    if not order:
        reasons = {_id(one): one.removed_by or "not on the route" for one in considered}
        raise nothing_left(reasons, request, rule=decision.rule)
    chosen = with_fallbacks(order, max_cost_ratio=policy.defaults.attempts.max_cost_ratio)
    propensity: float | None = None
    if not is_explicit and (split.shares or decision.exploration is not None):
        excluded = [one for one in considered if isinstance(one, Candidate) and split.excludes(one.deployment)]
        chosen, propensity = with_draws(
            chosen,
            split,
            candidates=left,
            excluded=excluded,
            objective=objective,
            decision=decision,
            request=request,
            snapshot=snapshot,
        )
    places = {one.id: place for place, one in enumerate(chosen)}
    return Route(
        policy_name=policy.name,
        policy_version=policy.version,
        policy_digest=policy.digest,
        decision=decision,
        steps=tuple(one.step(request) for one in chosen),
        considered=tuple(
            one.considered(place=places.get(one.id)) if isinstance(one, Candidate) else one for one in considered
        ),
        prediction=prediction,
        propensity=propensity,
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


def _id(one: Considered | Candidate) -> str:
    return one.id if isinstance(one, Candidate) else one.deployment_id
