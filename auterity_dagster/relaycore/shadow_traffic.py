"""Shadow calls: a sampled copy of a request goes to another deployment once its caller has been answered.

The copy has its own purpose, its own daily allowance and its own usage row, and no part in the caller's budgets, in the
breakers or in what routing sees. Nobody waits for it. What both answered is kept as a pair of digests.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import uuid4

import structlog

from auterity_dagster.errors import AuterityError, ProviderFailed
from auterity_dagster.relaycore.allowance import SHADOW, Allowance
from auterity_dagster.relaycore.attempt import Attempt, close_hold
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment
from auterity_dagster.relaycore.chat import ChatRequest, ProviderAnswer
from auterity_dagster.relaycore.personal_data import is_personal, is_restricted
from auterity_dagster.relaycore.ports import (
    Allowances,
    Answered,
    HoldRequest,
    Ledger,
    Providers,
    ShadowPair,
    ShadowPairs,
    Steering,
)
from auterity_dagster.relaycore.predicted_quality import expected_quality
from auterity_dagster.relaycore.provider_call import provider_call
from auterity_dagster.relaycore.route import Route, Step
from auterity_dagster.relaycore.said import asked_in, said_in
from auterity_dagster.relaycore.sampling import is_sampled
from auterity_dagster.relaycore.steering_candidates import Rooms, barred, candidate
from auterity_dagster.relaycore.steering_effects import SERVED_CHALLENGER, Shadow

MAX_UNDER_WAY = 32
"""Shadow calls of one process at a time; what comes beyond it is not copied."""

EXPIRES_AFTER_S = 60
MEANS_PERSONAL_DATA = "pii_ok"
CHALLENGERS_END = "@challenger"
"""How the ids of challengers end (`catalog.registered_id`)."""

_log = structlog.get_logger(__name__)


class Served(Protocol):
    """A request that a caller made, and what it was routed by."""

    request: ChatRequest
    body: Mapping[str, object]
    route: Route
    steering: Steering


@dataclass(frozen=True, slots=True)
class ShadowTraffic:
    """Makes the copies in `tasks`, which outlives the callers; `is_ending`: the process ends, nothing new begins."""

    ledger: Ledger
    providers: Providers
    allowances: Allowances
    pairs: ShadowPairs
    tasks: asyncio.TaskGroup
    is_ending: Callable[[], bool]
    _under_way: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def is_wanted(self, served: Served) -> bool:
        """True if this request is one of the share that its rule copies."""
        shadow = served.route.decision.shadow
        return (
            shadow is not None
            and is_sampled(served.request.id, SHADOW, share=shadow.share)
            and (shadow.deployment != SERVED_CHALLENGER or bool(_challengers(served.steering.snapshot)))
        )

    def follow(self, served: Served, answered: Attempt, *, said: Callable[[], bytes]) -> None:
        """Copy the request now that it is answered; returns at once."""
        if self.is_ending() or len(self._under_way) >= MAX_UNDER_WAY:
            return
        task = self.tasks.create_task(self._copied(served, answered, _answered(answered, "ok"), said))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _copied(self, served: Served, answered: Attempt, first: Answered, said: Callable[[], bytes]) -> None:
        shadow = served.route.decision.shadow
        try:
            step = _step(served, answered, shadow) if shadow is not None else None
            if shadow is not None and step is not None:
                await self._call(served, shadow, step, first, said)
        except Exception as error:  # noqa: BLE001 - the task's outermost frame: the group it runs in must go on
            _log.error("shadow_failed", rule=served.route.rule, error=type(error).__name__)

    async def _call(
        self, served: Served, shadow: Shadow, step: Step, first: Answered, said: Callable[[], bytes]
    ) -> None:
        rule = served.route.decision.shadow_rule or served.route.rule
        allowance = Allowance("shadow", rule, shadow.max_usd_per_day, served.steering.policy.defaults.time_zone)
        request = _copy(served.request)
        try:
            if not await self.allowances.ensure(request.caller.organization_id, allowance):
                return
            hold = await self.ledger.hold(_hold_request(served, request, step, allowance))
        except AuterityError as error:
            _log.info("shadow_not_called", rule=rule, code=error.code)
            return
        attempt = Attempt(request, served.route, step, hold)
        second = await self._second(served, attempt)
        await self.pairs.add(
            ShadowPair(
                organization_id=request.caller.organization_id,
                request_id=served.request.id,
                shadow_request_id=request.id,
                rule=rule,
                task=request.task,
                served=replace(first, said=said()),
                shadow=second,
                asked=asked_in(served.body) if _may_be_compared(served, shadow, second) else None,
            )
        )

    async def _second(self, served: Served, attempt: Attempt) -> Answered:
        """Call the shadow deployment and close its hold, whatever happens."""
        deadlines = served.steering.policy.defaults.deadlines
        failure: ProviderFailed | None = _failure(attempt, "the process ends", "cancelled")
        answer: ProviderAnswer | None = None
        call = provider_call(
            attempt.request, attempt.step, served.body, connect_timeout_s=deadlines.connect_s, traceparent=None
        )
        try:
            async with asyncio.timeout(deadlines.total_s):
                answer = await self.providers.client_for(attempt.step.deployment).complete(call)
            attempt.note(answer.report, answer.provider_request_id)
            failure = None if answer.has_content else _failure(attempt, "the answer is empty", "malformed")
        except ProviderFailed as error:
            failure = error
        except TimeoutError:
            failure = _failure(attempt, "no answer within the deadline", "timeout")
        finally:
            await asyncio.shield(close_hold(self.ledger, attempt, failure))
        if answer is None or failure is not None:
            return _answered(attempt, failure.cause if failure is not None else "ok")
        return replace(_answered(attempt, "ok"), said=said_in(answer.body, attempt.request.wire))


def _may_be_compared(served: Served, shadow: Shadow, second: Answered) -> bool:
    """True if texts may be kept for a judge: the rule says so, there are two answers, and nobody is named in them."""
    return shadow.compare and second.outcome == "ok" and not is_personal(served.request, served.body)


def _challengers(snapshot: CatalogSnapshot) -> list[str]:
    return [one for one in snapshot.deployments if one.endswith(CHALLENGERS_END)]


def _challenger_of(answered: Deployment, snapshot: CatalogSnapshot) -> str | None:
    """Return the id of the challenger of what answered; of a scope that serves the base route, where another did."""
    own = f"{answered.id}{CHALLENGERS_END}"
    if own in snapshot.deployments:
        return own
    first = (one for one in _challengers(snapshot) if one.removesuffix(CHALLENGERS_END) not in snapshot.deployments)
    return None if answered.provider == "served" else next(first, None)


def _step(served: Served, answered: Attempt, shadow: Shadow) -> Step | None:
    """Return where the copy goes, or None: nowhere that may see this request and is not where it was answered."""
    policy, snapshot = served.steering.policy, served.steering.snapshot
    name: str | None = shadow.deployment
    if name == SERVED_CHALLENGER:
        name = _challenger_of(answered.step.deployment, snapshot)
    deployment, request = snapshot.deployments.get(name or ""), replace(served.request, is_stream=False)
    if deployment is None or deployment.id == answered.step.deployment.id or deployment.id in snapshot.breaker_open:
        return None
    if is_restricted(request) and MEANS_PERSONAL_DATA not in deployment.data_policy:
        return None
    decision = served.route.decision
    if barred(deployment, decision, request, snapshot) is not None:
        return None
    known = snapshot.quality_of(deployment, request.task)
    found = candidate(
        policy,
        decision,
        request,
        snapshot,
        deployment=deployment,
        position=0,
        rooms=Rooms((), ()),
        quality=expected_quality(known, deployment.artefact_digest, None),
    )
    return found.step(request)


def _copy(request: ChatRequest) -> ChatRequest:
    """The same request as a call of its own: none of its caller's budgets is touched."""
    caller = replace(request.caller, purpose=SHADOW, dealership_id=None, user_id=None, tags=())
    return replace(request, id=uuid4(), caller=caller, is_stream=False, claim=None, trace=None)


def _hold_request(served: Served, request: ChatRequest, step: Step, allowance: Allowance) -> HoldRequest:
    total_s = served.steering.policy.defaults.deadlines.total_s
    return HoldRequest(
        organization_id=request.caller.organization_id,
        dealership_id=None,
        key_id=request.caller.key_id,
        user_id=None,
        purpose=SHADOW,
        tags=(),
        request_id=request.id,
        attempt=1,
        deployment_id=step.deployment.id,
        price_key=step.price.key,
        price_digest=step.price.digest,
        amount_nusd=step.hold_nusd,
        prompt_nusd=step.prompt_nusd,
        max_tokens=step.max_tokens,
        expires_in_s=round(total_s) + EXPIRES_AFTER_S,
        allowance=allowance.value,
    )


def _answered(attempt: Attempt, outcome: str) -> Answered:
    deployment = attempt.step.deployment
    return Answered(deployment.id, deployment.artefact_digest, outcome, attempt.latency_ms, attempt.cost_nusd)


def _failure(attempt: Attempt, message: str, cause: str) -> ProviderFailed:
    deployment = attempt.step.deployment.id
    return ProviderFailed(f"{deployment}: {message}", deployment=deployment, cause=cause, is_billed=None)
