"""Walk a policy's rules over the facts of a request: which rule decides, and what the matching ones add."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from auterity_dagster.relaycore.catalog import BudgetRoom, Deployment
from auterity_dagster.relaycore.chat import Caller, ChatRequest
from auterity_dagster.relaycore.steering_condition import Fact
from auterity_dagster.relaycore.steering_effects import (
    ALL_CAUSES,
    CacheRule,
    Cause,
    DeploymentFilter,
    Exploration,
    Settings,
    Shadow,
)
from auterity_dagster.relaycore.steering_policy import NOTIFY, SERVED_PATTERN, SteeringPolicy

NO_LIMITS = Settings()
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say about a request. `members` are a pool's entries, in the operator's order.

    `matched` are all rules that matched, `limits` the strictest numbers of theirs. `budget_percent` is the highest
    threshold of `at_budget_percent` that the tightest window has reached. Of `cache`, `exploration` and `shadow` the
    first match that names one counts; the rule that names it is the one whose daily allowance pays.
    """

    rule: str
    objective: str
    members: tuple[str, ...]
    filters: tuple[DeploymentFilter, ...]
    limits: Settings
    fallback_on: tuple[Cause, ...]
    is_relaxed: bool
    is_final: bool
    is_named: bool
    """The rule names one deployment: it needs no evidence of quality."""
    cache: CacheRule
    exploration: Exploration | None = None
    exploration_rule: str | None = None
    shadow: Shadow | None = None
    shadow_rule: str | None = None
    reject: str | None = None
    matched: tuple[str, ...] = ()
    budget_percent: int | None = None

    @property
    def is_plain(self) -> bool:
        """True if the request is answered and that is all: no kept answers, no shadow call."""
        return self.cache.mode == "off" and self.shadow is None

    def admits(self, deployment: Deployment) -> bool:
        """True if the deployment passes every filter of every rule that matched."""
        return all(one.admits(deployment) for one in self.filters)

    def names(self, deployment_id: str) -> bool:
        """True if the deployment belongs to the pool, by name or as one of the served models."""
        return deployment_id in self.members or (
            SERVED_PATTERN in self.members and deployment_id.startswith(SERVED_PATTERN.removesuffix("*"))
        )


_OF_REQUEST: Mapping[str, Callable[[ChatRequest], Fact | None]] = {
    "request.model": lambda request: request.model,
    "request.has_tools": lambda request: request.has_tools,
    "request.has_images": lambda request: request.has_images,
    "request.needs_json": lambda request: request.needs_json,
    "request.stream": lambda request: request.is_stream,
    "request.untrusted": lambda request: request.is_untrusted,
    "features.task": lambda request: request.task,
    "features.prompt_tokens": lambda request: request.prompt_tokens_estimate,
    "features.language": lambda request: request.language,
    "principal.organization_id": lambda request: str(request.caller.organization_id),
    "principal.key_id": lambda request: str(request.caller.key_id),
    "principal.purpose": lambda request: request.caller.purpose,
    "principal.dealership_id": lambda request: _text(request.caller.dealership_id),
    "principal.user_id": lambda request: _text(request.caller.user_id),
    "guardrail.pii": lambda request: request.pii or None,
}


def facts_of(policy: SteeringPolicy, request: ChatRequest, *, used_ratio: float | None) -> Mapping[str, Fact]:
    """Return the facts that some rule of the policy asks about; what the caller did not say is missing."""
    facts: dict[str, Fact] = {}
    for name in policy.index.fields:
        if (read := _OF_REQUEST.get(name)) is not None:
            fact = read(request)
        elif name == "budget.used_ratio":
            fact = used_ratio
        elif name.startswith("time."):
            local = request.received_at.astimezone(ZoneInfo(policy.defaults.time_zone))
            fact = local.hour if name == "time.hour" else WEEKDAYS[local.weekday()]
        else:
            fact = request.metadata.get(name.removeprefix("metadata."))
        if fact is not None:
            facts[name] = fact
    return facts


def decide(policy: SteeringPolicy, facts: Mapping[str, Fact]) -> Decision:
    """Return what the policy says: the first match with a destination decides, every match adds its filter."""
    decided = shadowing = exploring = cache = objective = None
    filters: list[DeploymentFilter] = []
    limits, matched, is_final = NO_LIMITS, list[str](), False
    for rule in policy.index.matching(facts):
        then = rule.then
        matched.append(rule.id)
        if decided is None and then.decides:
            decided = rule
        objective = objective or then.objective
        cache = cache or then.cache
        shadowing = shadowing or (rule if then.shadow is not None else None)
        exploring = exploring or (rule if then.explore else None)
        if then.filter is not None:
            filters.append(then.filter)
        if then.set is not None:
            limits = limits.stricter(then.set)
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
        limits=limits,
        fallback_on=ALL_CAUSES if then.fallback_on is None else then.fallback_on,
        is_relaxed=then.on_no_candidates == "relax",
        is_final=is_final,
        is_named=then.deployment is not None,
        cache=cache or policy.defaults.cache,
        exploration=exploring.then.exploration if exploring is not None else None,
        exploration_rule=exploring.id if exploring is not None else None,
        shadow=shadowing.then.shadow if shadowing is not None else None,
        shadow_rule=shadowing.id if shadowing is not None else None,
        reject=then.reject,
        matched=tuple(matched),
    )


def binding_budgets(budgets: tuple[BudgetRoom, ...], caller: Caller) -> tuple[BudgetRoom, ...]:
    """Return the windows that this caller's calls count in, whichever deployment answers."""
    if not budgets:
        return ()
    scopes = {
        "organization": str(caller.organization_id),
        "dealership": _text(caller.dealership_id),
        "key": str(caller.key_id),
        "user": _text(caller.user_id),
        "purpose": caller.purpose,
    }
    return tuple(one for one in budgets if scopes.get(one.scope) == one.value)


def used_ratio(budgets: tuple[BudgetRoom, ...]) -> float | None:
    """Return how much of the tightest window is used, or None where no budget binds."""
    return max((one.used_nusd / one.cap_nusd if one.cap_nusd else 1.0 for one in budgets), default=None)


def budget_effect(policy: SteeringPolicy, ratio: float | None) -> tuple[int | None, str | None]:
    """Return the highest threshold reached, and the objective that the highest one with an objective demands."""
    reached = sorted(one for one in policy.defaults.at_budget_percent if ratio is not None and ratio * 100 >= one)
    named = [policy.defaults.at_budget_percent[one] for one in reached]
    return (reached[-1] if reached else None), next((one for one in reversed(named) if one != NOTIFY), None)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
