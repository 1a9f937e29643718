"""Walk a policy's rules over the facts of a request: which rule decides, and what the matching ones add."""

from collections.abc import Mapping
from dataclasses import dataclass

from auterity_dagster.relaycore.catalog import Deployment
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.steering_condition import Fact
from auterity_dagster.relaycore.steering_policy import (
    ALL_CAUSES,
    SERVED_PATTERN,
    Cause,
    DeploymentFilter,
    SteeringPolicy,
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say about a request. `members` are a pool's entries, in the operator's order."""

    rule: str
    objective: str
    members: tuple[str, ...]
    filters: tuple[DeploymentFilter, ...]
    max_output_tokens: int | None
    fallback_on: tuple[Cause, ...]
    is_relaxed: bool
    is_final: bool
    reject: str | None = None

    def admits(self, deployment: Deployment) -> bool:
        """True if the deployment passes every filter of every rule that matched."""
        return all(one.admits(deployment) for one in self.filters)

    def names(self, deployment_id: str) -> bool:
        """True if the deployment belongs to the pool, by name or as one of the served models."""
        return deployment_id in self.members or (
            SERVED_PATTERN in self.members and deployment_id.startswith(SERVED_PATTERN.removesuffix("*"))
        )


def facts_of(request: ChatRequest) -> Mapping[str, Fact]:
    """Return the facts that a rule may ask about; what the caller did not say is missing."""
    caller = request.caller
    facts: dict[str, Fact] = {
        "request.model": request.model,
        "request.has_tools": request.has_tools,
        "request.has_images": request.has_images,
        "request.needs_json": request.needs_json,
        "request.stream": request.is_stream,
        "features.prompt_tokens": request.prompt_tokens_estimate,
        "principal.organization_id": str(caller.organization_id),
        "principal.key_id": str(caller.key_id),
        "principal.purpose": caller.purpose,
    }
    if request.task is not None:
        facts["features.task"] = request.task
    if caller.dealership_id is not None:
        facts["principal.dealership_id"] = str(caller.dealership_id)
    return facts


def decide(policy: SteeringPolicy, facts: Mapping[str, Fact]) -> Decision:
    """Return what the policy says: the first match with a destination decides, every match adds its filter."""
    decided = None
    objective: str | None = None
    filters: list[DeploymentFilter] = []
    limits: list[int] = []
    is_final = False
    for rule in sorted(policy.rules, key=lambda rule: -rule.priority):
        if not rule.when.holds(facts):
            continue
        then = rule.then
        if decided is None and then.decides:
            decided = rule
        objective = objective or then.objective
        if then.filter is not None:
            filters.append(then.filter)
        if then.set is not None:
            limits.append(then.set.max_output_tokens)
        if then.final:
            is_final = True
            break
    decided = decided or min(policy.rules, key=lambda rule: rule.priority)
    then = decided.then
    if then.deployment is not None:
        members: tuple[str, ...] = (then.deployment,)
    else:
        members = policy.pools[then.pool] if then.pool is not None else ()
    return Decision(
        rule=decided.id,
        objective=objective or policy.defaults.objective,
        members=members,
        filters=tuple(filters),
        max_output_tokens=min(limits, default=None),
        fallback_on=ALL_CAUSES if then.fallback_on is None else then.fallback_on,
        is_relaxed=then.on_no_candidates == "relax",
        is_final=is_final,
        reject=then.reject,
    )
