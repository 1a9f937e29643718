"""The record of a request that has ended, however it ended."""

from auterity_dagster.errors import AuterityError
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.relaycore.chat import CacheResult, ChatRequest
from auterity_dagster.relaycore.ports import AttemptRecord, RequestRecord, Steering
from auterity_dagster.relaycore.route import Route


def finished_record(
    request: ChatRequest,
    steering: Steering,
    *,
    route: Route,
    answered: Attempt | Hit | None,
    attempts: tuple[AttemptRecord, ...],
    outcome: str,
    took_s: float,
    cache: CacheResult | None,
) -> RequestRecord:
    """Return the record of a request that had a route; `answered` is what answered it, if anything did."""
    return RequestRecord(
        request=request,
        route=route,
        steering=steering,
        refusal=None,
        deployment_id=answered.step.deployment.id if answered else None,
        attempts=attempts,
        outcome=outcome,
        usage=answered.usage if answered else None,
        cost_nusd=(answered.cost_nusd or 0) if answered else 0,
        latency_ms=round(took_s * 1000),
        received_at=request.received_at,
        cache=cache,
        hit=answered if isinstance(answered, Hit) else None,
    )


def refused_record(
    request: ChatRequest, steering: Steering | None, error: AuterityError, *, took_s: float
) -> RequestRecord:
    """Return the record of a request that got no route."""
    return RequestRecord(
        request=request,
        route=None,
        steering=steering,
        refusal=error,
        deployment_id=None,
        attempts=(),
        outcome=error.code,
        usage=None,
        cost_nusd=0,
        latency_ms=round(took_s * 1000),
        received_at=request.received_at,
    )
