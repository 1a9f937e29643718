"""The gateway: route a request, hold the money, call, and move on to the next deployment while nothing was answered.

Only here is a provider called, and only with a committed hold; counting a prompt's tokens, which is free, needs none.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from auterity_dagster.errors import AuterityError, BudgetExceeded, ProviderFailed
from auterity_dagster.relaycore.allowance import EXPLORATION
from auterity_dagster.relaycore.answer import Answer, AnswerStream
from auterity_dagster.relaycore.attempt import Attempt, close_hold
from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.relaycore.chat import CacheResult, ChatRequest, ProviderAnswer, ProviderCall, StreamFrame
from auterity_dagster.relaycore.clamping import clamped_to_room
from auterity_dagster.relaycore.draining import Drain
from auterity_dagster.relaycore.health import Health
from auterity_dagster.relaycore.ports import (
    AnswerChecks,
    AttemptRecord,
    Catalog,
    Hold,
    HoldRequest,
    Ledger,
    ProviderClient,
    Providers,
    RateLimits,
    RequestLog,
    Steering,
)
from auterity_dagster.relaycore.prompt_reading import with_predictions
from auterity_dagster.relaycore.provider_call import provider_call
from auterity_dagster.relaycore.rate_limit import Admission
from auterity_dagster.relaycore.relay import Relay, Streams
from auterity_dagster.relaycore.request_record import finished_record, refused_record
from auterity_dagster.relaycore.retrying import Plan, RetryBudget
from auterity_dagster.relaycore.route import Route, Step
from auterity_dagster.relaycore.rule_traffic import RuleTraffic, exploration_allowance
from auterity_dagster.relaycore.shedding import Places
from auterity_dagster.relaycore.slices import SlicedStream, first_slice, sliced_call
from auterity_dagster.relaycore.steering import choose
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

HOLD_GRACE_S = 60
"""A hold outlives the deadline by this; then the reaper closes what nobody else did."""

Body = Mapping[str, object]
Answered = TypeVar("Answered")


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Run:
    """One request on its way through its plan. `relay` or `waiting` is what it waits in for its provider."""

    request: ChatRequest
    body: Body
    steering: Steering
    route: Route
    plan: Plan
    deadline_s: float
    started_s: float
    records: list[AttemptRecord]
    admission: Admission | None
    cache: CacheResult | None = None
    relay: Relay | None = None
    waiting: asyncio.Timeout | None = None

    @property
    def policy(self) -> SteeringPolicy:
        return self.steering.policy

    @property
    def remaining_s(self) -> float:
        return self.deadline_s - time.monotonic()

    def interrupt(self) -> None:
        """This process ends: a stream is told, a whole answer is waited for no longer."""
        if self.relay is not None:
            self.relay.interrupt()
        elif self.waiting is not None:
            self.waiting.reschedule(asyncio.get_running_loop().time())


class Gateway:
    """Answers requests of every wire. `tasks` outlives them: streams are read in it, also after their caller left."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        ledger: Ledger,
        providers: Providers,
        log: RequestLog,
        tasks: asyncio.TaskGroup,
        limits: RateLimits,
        retries: RetryBudget,
        places: Places,
        drain: Drain,
        traffic: RuleTraffic,
        streams: Streams,
        checks: AnswerChecks,
    ) -> None:
        self._catalog, self._ledger, self._providers, self._log, self._tasks = catalog, ledger, providers, log, tasks
        self._limits, self._retries, self._places, self._drain = limits, retries, places, drain
        self._traffic, self._checks = traffic, checks
        self._health, self._streams = Health(), streams

    async def route(self, request: ChatRequest, body: Body) -> Route:
        """Return where the request would go, and why. Calls nothing and costs nothing."""
        steering = await self._steering(request, body)
        return choose(steering.policy, request, steering.snapshot)

    async def complete(self, request: ChatRequest, body: Body) -> tuple[Answer, ProviderAnswer]:
        """Return a whole answer. Raises the errors of `choose`, of `Ledger.hold`, and `ProviderFailed`."""
        run = await self._begin(request, body)
        try:
            if run.route.decision.is_plain:
                return await self._run(run, self._whole_answer)
            answer, given = await self._traffic.whole(run, lambda: self._run(run, self._whole_answer))
            if isinstance(answer.attempt, Hit):
                self._note_request(run, answer.attempt, outcome="ok")
            return answer, given
        finally:
            self._end(run)

    async def stream(self, request: ChatRequest, body: Body) -> tuple[Answer, AnswerStream]:
        """Return a stream of which the first content is here; the same errors. After it the model never changes."""
        run = await self._begin(request, body)
        try:
            if run.route.decision.is_plain:
                return await self._run(run, self._opened_stream)
            answer, stream = await self._traffic.stream(run, lambda: self._run(run, self._opened_stream))
        except BaseException:
            self._end(run)
            raise
        if isinstance(answer.attempt, Hit):
            self._note_request(run, answer.attempt, outcome="ok")
            self._end(run)
        return answer, stream

    async def count_tokens(self, request: ChatRequest, body: Body) -> tuple[Route, int | None]:
        """Return where the request would go and what its prompt counts there; None where that provider cannot say.

        The one call without a hold: no provider charges for it. Raises `ProviderFailed`.
        """
        await self._limits.admit(request.caller, tokens=0)
        steering = await self._steering(request, body)
        route = choose(steering.policy, request, steering.snapshot)
        step, deadlines = route.steps[0], steering.policy.defaults.deadlines
        call = provider_call(request, step, body, connect_timeout_s=deadlines.connect_s, traceparent=None)
        try:
            async with asyncio.timeout(deadlines.first_token_s):
                return route, await self._providers.client_for(step.deployment).count_tokens(call)
        except TimeoutError as error:
            raise ProviderFailed(
                f"{step.deployment.id}: no count within the deadline",
                deployment=step.deployment.id,
                cause="timeout",
                is_billed=False,
            ) from error

    async def _steering(self, request: ChatRequest, body: Body) -> Steering:
        """What steers the caller's organization, with what is seen at this moment and predicted of this prompt."""
        steering = await self._catalog.steering(request.caller.organization_id)
        snapshot = self._health.seen(steering.snapshot, request)
        return replace(steering, snapshot=with_predictions(snapshot, steering.predictors, request, body))

    async def _begin(self, request: ChatRequest, body: Body) -> _Run:
        """Take a place and plan the request's way; `_end` gives the place back."""
        started_s, steering = time.monotonic(), None
        organization_id = request.caller.organization_id
        self._drain.require_time_left()
        await self._places.take(organization_id)
        try:
            steering = await self._steering(request, body)
            defaults = steering.policy.defaults
            needed = request.prompt_tokens_estimate
            if request.kind == "chat":
                needed += request.max_tokens or defaults.max_output_tokens
            admission = await self._limits.admit(request.caller, tokens=needed)
            route = choose(steering.policy, request, steering.snapshot)
        except BaseException as error:
            took_s = time.monotonic() - started_s
            self._places.give_back(organization_id, held_s=took_s)
            if isinstance(error, AuterityError):
                self._log.add(refused_record(request, steering, error, took_s=took_s))
            raise
        limits_s = (defaults.deadlines.total_s, request.timeout_s, route.decision.limits.total_s)
        total_s = min(one for one in limits_s if one is not None)
        plan = Plan(route, defaults.attempts, random.random)
        run = _Run(request, body, steering, route, plan, started_s + total_s, started_s, [], admission)
        self._drain.watch(run)
        return run

    def _end(self, run: _Run) -> None:
        self._places.give_back(run.request.caller.organization_id, held_s=time.monotonic() - run.started_s)

    async def _run(self, run: _Run, call: Callable[[_Run, Attempt], Awaitable[Answered]]) -> tuple[Answer, Answered]:
        """Try the plan's steps until one answers; the last failure is raised."""
        self._retries.active += 1
        try:
            return await self._attempts(run, call)
        except AuterityError as error:
            self._note_request(run, None, outcome=error.code)
            raise
        finally:
            self._retries.active -= 1

    async def _attempts(
        self, run: _Run, call: Callable[[_Run, Attempt], Awaitable[Answered]]
    ) -> tuple[Answer, Answered]:
        step, is_retry = run.route.steps[0], False
        while True:
            try:
                hold, step = await self._hold(run, step)
                attempt = Attempt(run.request, run.route, step, hold)
                self._health.began(run.policy, step.deployment)
                return Answer(attempt, run.plan.attempts, run.admission, run.cache), await call(run, attempt)
            except ProviderFailed as failure:
                self._drain.require_time_left()
                following = run.plan.after(step, failure, remaining_s=run.remaining_s)
                if following is None or not self._retries.take():
                    raise
            finally:
                if is_retry:
                    self._retries.give_back()
            is_retry = True
            await asyncio.sleep(following.pause_s)
            step = following.step

    async def _hold(self, run: _Run, step: Step) -> tuple[Hold, Step]:
        """Set money aside for the step; where a budget has no room, for a cheaper one, or with fewer tokens."""
        if step.is_explored and not await self._traffic.may_explore(run):
            step = run.plan.cheaper(step) or step
        while True:
            usual_tokens = self._health.usual_tokens(run.request, step.deployment)
            held = first_slice(run.policy, run.request, step, usual_tokens=usual_tokens)
            try:
                hold = await self._ledger.hold(_hold_request(run, held))
            except BudgetExceeded as refusal:
                fitting = run.plan.cheaper(step) or clamped_to_room(step, run.request, run.policy, refusal)
                if fitting is None:
                    raise
                step = fitting
                continue
            run.plan.begin(step)
            return hold, step

    async def _whole_answer(self, run: _Run, attempt: Attempt) -> ProviderAnswer:
        failure: ProviderFailed | None = _failure(attempt, "the gateway stopped", "cancelled")
        try:
            async with asyncio.timeout(run.remaining_s) as run.waiting:
                answer = await self._client(attempt).complete(_provider_call(run, attempt))
            attempt.note(answer.report, answer.provider_request_id)
            failure = self._found_wanting(run, attempt, answer)
        except ProviderFailed as error:
            failure = error
        except TimeoutError:
            failure = _failure(attempt, "no answer within the deadline", "timeout")
        finally:
            run.waiting = None
            await asyncio.shield(self._finish_attempt(run, attempt, failure))
        if failure is not None:
            raise failure
        self._note_request(run, attempt, outcome="ok")
        return answer  # pyright: ignore[reportPossiblyUnboundVariable]

    def _found_wanting(self, run: _Run, attempt: Attempt, answer: ProviderAnswer) -> ProviderFailed | None:
        if not answer.has_content:
            return _failure(attempt, "the answer is empty", "malformed")
        if run.request.needs_json and self._checks.is_broken(run.body, run.request.wire, answer):
            return _failure(attempt, "the answer is not the JSON that was asked for", "malformed")
        return None

    async def _opened_stream(self, run: _Run, attempt: Attempt) -> Relay:
        is_committed, ended = False, list[ProviderFailed | None]()

        def conclude() -> None:
            self._note_request(run, attempt, outcome="ok" if ended[0] is None else "stream_interrupted")
            self._end(run)

        async def finished(attempt: Attempt, failure: ProviderFailed | None) -> None:
            await self._finish_attempt(run, attempt, failure)
            ended.append(failure)
            if is_committed:
                conclude()

        deadlines = run.policy.defaults.deadlines
        relay = run.relay = Relay(
            attempt, deadlines=deadlines, deadline_s=run.deadline_s, finished=finished, streams=self._streams
        )
        self._tasks.create_task(relay.pump(self._frames(run, attempt)))
        try:
            await relay.first_content()
        except BaseException:
            relay.leave()
            raise
        is_committed = True
        if ended:  # a short stream is over before its first content is looked at
            conclude()
        return relay

    def _frames(self, run: _Run, attempt: Attempt) -> AsyncGenerator[StreamFrame]:
        call, client = _provider_call(run, attempt), self._client(attempt)
        if not attempt.is_sliced:
            return client.stream(call)
        sliced = SlicedStream(attempt, call, ledger=self._ledger, client=client, tasks=self._tasks)
        return sliced.frames(client.stream(call))

    async def _finish_attempt(self, run: _Run, attempt: Attempt, failure: ProviderFailed | None) -> None:
        """Tell the breaker, the record of attempts and the ledger how the attempt ended."""
        deployment = attempt.step.deployment
        self._health.ended(run.policy, attempt, failure)
        if failure is not None and failure.cause == "credential":
            self._catalog.refuse_credential(deployment)
        if failure is not None and failure.status == 404:
            self._catalog.refuse_deployment(deployment)
        cause = "ok" if failure is None else failure.cause
        began_ms = round((attempt.started_s - run.started_s) * 1000)
        run.records.append(AttemptRecord(deployment.id, cause, attempt.latency_ms, began_ms))
        await close_hold(self._ledger, attempt, failure)

    def _note_request(self, run: _Run, attempt: Attempt | Hit | None, *, outcome: str) -> None:
        usage = attempt.usage if attempt else None
        if run.admission is not None and (usage is not None or attempt is None):
            used = usage if isinstance(attempt, Attempt) else None
            used_tokens = used.prompt_tokens + used.completion_tokens if used is not None else 0
            self._limits.correct(run.admission, used_tokens=used_tokens)
        self._log.add(
            finished_record(
                run.request,
                run.steering,
                route=run.route,
                answered=attempt,
                attempts=tuple(run.records),
                outcome=outcome,
                took_s=time.monotonic() - run.started_s,
                cache=run.cache,
            )
        )

    def _client(self, attempt: Attempt) -> ProviderClient:
        return self._providers.client_for(attempt.step.deployment)


def _hold_request(run: _Run, step: Step) -> HoldRequest:
    caller = run.request.caller
    return HoldRequest(
        organization_id=caller.organization_id,
        dealership_id=caller.dealership_id,
        key_id=caller.key_id,
        user_id=caller.user_id,
        purpose=EXPLORATION if step.is_explored else caller.purpose,
        tags=caller.tags,
        request_id=run.request.id,
        attempt=run.plan.attempts + 1,
        deployment_id=step.deployment.id,
        price_key=step.price.key,
        price_digest=step.price.digest,
        amount_nusd=step.hold_nusd,
        prompt_nusd=step.prompt_nusd,
        max_tokens=step.max_tokens,
        expires_in_s=math.ceil(max(run.remaining_s, 0)) + HOLD_GRACE_S,
        claim=run.request.claim,
        allowance=exploration_allowance(run).value if step.is_explored else None,
    )


def _provider_call(run: _Run, attempt: Attempt) -> ProviderCall:
    trace = run.request.trace
    call = provider_call(
        run.request,
        attempt.step,
        run.body,
        connect_timeout_s=run.policy.defaults.deadlines.connect_s,
        traceparent=trace.traceparent(run.plan.attempts) if trace is not None else None,
    )
    return sliced_call(call, attempt.hold) if attempt.is_sliced else call


def _failure(attempt: Attempt, message: str, cause: str) -> ProviderFailed:
    deployment = attempt.step.deployment.id
    return ProviderFailed(f"{deployment}: {message}", deployment=deployment, cause=cause, is_billed=None)
