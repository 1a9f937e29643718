"""Fewer output tokens where a budget is short and the policy says so."""

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.route import Step
from auterity_dagster.relaycore.steering_candidates import clamped
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

MIN_CLAMPED_TOKENS = 16
"""A budget that has room for fewer output tokens than this refuses, also where the policy clamps."""


def clamped_to_room(step: Step, request: ChatRequest, policy: SteeringPolicy, refusal: BudgetExceeded) -> Step | None:
    """Return the step with the output tokens that the refusing budget has room for, where the policy allows that."""
    tokens = refusal.details.get("output_tokens")
    if policy.defaults.when_budget_short != "clamp" or not isinstance(tokens, int):
        return None
    if not MIN_CLAMPED_TOKENS <= tokens < step.max_tokens:
        return None
    return clamped(step, request, max_tokens=tokens)
