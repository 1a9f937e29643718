"""What a provider is asked in one attempt."""

from collections.abc import Mapping

from auterity_dagster.relaycore.chat import ChatRequest, ProviderCall
from auterity_dagster.relaycore.route import Step


def provider_call(
    request: ChatRequest, step: Step, body: Mapping[str, object], *, connect_timeout_s: float, traceparent: str | None
) -> ProviderCall:
    """Return the call of a step; its body is still on the caller's wire."""
    return ProviderCall(
        request_id=request.id,
        deployment_id=step.deployment.id,
        model=step.deployment.model,
        max_tokens=step.max_tokens,
        wire=request.wire,
        kind=request.kind,
        body=body,
        connect_timeout_s=connect_timeout_s,
        traceparent=traceparent,
    )
