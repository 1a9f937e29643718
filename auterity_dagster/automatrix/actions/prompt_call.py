"""The call that a filled prompt becomes: for whom, about what, and under which key a repeat gets the first answer."""

from auterity_dagster.automatrix.actions.outcome import StepContext
from auterity_dagster.automatrix.ports import ChatCall
from auterity_dagster.prompt import PromptTemplate


def prompt_call(
    context: StepContext, prompt: PromptTemplate, *, model: str, system: str, user: str, repair: int = 0
) -> ChatCall:
    """Return the call; the same attempt asks under the same key, each of its repairs under one of its own."""
    snapshot = context.snapshot
    key = f"{snapshot.claim.execution_id}:{context.path}:{context.attempt}"
    return ChatCall(
        organization_id=snapshot.claim.organization_id,
        dealership_id=snapshot.dealership_id,
        task=prompt.task,
        model=model,
        system=system,
        user=user,
        max_output_tokens=prompt.max_output_tokens,
        timeout_s=context.timeout_s,
        idempotency_key=key if repair == 0 else f"{key}:repair{repair}",
    )
