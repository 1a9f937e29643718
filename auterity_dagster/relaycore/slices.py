"""Streams that are paid for slice by slice: a small hold at first, raised in time for as long as every budget has room.

Only where the provider itself keeps to the slice: it is told that it may produce so many tokens and no more, and is
told of more only once the hold that pays for them is committed. What it may bill is never above what is held.
"""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import structlog

from auterity_dagster.errors import ProviderFailed
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.chat import ChatRequest, ProviderCall, StreamFrame
from auterity_dagster.relaycore.ports import Hold, Ledger, ProviderClient
from auterity_dagster.relaycore.route import Step
from auterity_dagster.relaycore.steering_candidates import clamped
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

SMALLEST, LARGEST = 256, 1_024
"""A slice has as many tokens as nine of ten answers to its task, within these limits."""

_log = structlog.get_logger()


def first_slice(policy: SteeringPolicy, request: ChatRequest, step: Step, *, usual_tokens: int | None) -> Step:
    """Return the step with the output tokens of its first slice, or as it is where it is held whole.

    `usual_tokens` is the length that nine of ten answers to the request's task keep to there; None: nobody knows yet.
    """
    can_be_held_to_it = step.deployment.capabilities.raises_limit
    if policy.defaults.stream_holds != "slices" or not request.is_stream or not can_be_held_to_it:
        return step
    tokens = min(max(usual_tokens or SMALLEST, SMALLEST), LARGEST)
    return step if step.max_tokens <= tokens else clamped(step, request, max_tokens=tokens)


def sliced_call(call: ProviderCall, hold: Hold) -> ProviderCall:
    """Return the call with the tokens that are held for, and the name under which it is told of more."""
    return replace(call, max_tokens=hold.request.max_tokens, stream_id=hold.id)


class SlicedStream:
    """One stream on its way through its slices; `tasks` carries the extensions, which nobody waits for."""

    def __init__(
        self,
        attempt: Attempt,
        call: ProviderCall,
        *,
        ledger: Ledger,
        client: ProviderClient,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._attempt, self._call = attempt, call
        self._ledger, self._client, self._tasks = ledger, client, tasks
        self._slice = self._granted = attempt.hold.request.max_tokens
        self._said = 0
        self._extend_at: float = self._granted - self._slice // 2
        self._is_over = False

    async def frames(self, source: AsyncGenerator[StreamFrame]) -> AsyncGenerator[StreamFrame]:
        """Yield the provider's frames as they are. Half a slice before its end the next one is asked for."""
        try:
            async with aclosing(source):
                async for frame in source:
                    if frame.has_content:
                        self._said += 1
                        if self._said >= self._extend_at:
                            self._extend_at = math.inf
                            self._tasks.create_task(self._extend_in_time())
                    if frame.is_cut and self._granted < self._attempt.step.max_tokens:
                        self._attempt.is_budget_stop = True
                    yield frame
        finally:
            self._is_over = True

    async def _extend_in_time(self) -> None:
        """Extend until half a slice lies ahead: what came meanwhile may have used up the next one too."""
        while await self._extend():
            extend_at = self._granted - self._slice // 2
            if self._said < extend_at:
                self._extend_at = extend_at
                return

    async def _extend(self) -> bool:
        """Hold the next slice, then tell the provider; where a budget has no room, tell it that this was the last.

        True if there may be another one after it.
        """
        attempt, whole = self._attempt, self._attempt.step.max_tokens
        wanted = min(self._granted + self._slice, whole)
        more_nusd = self._bound_nusd(wanted) - self._bound_nusd(self._granted)
        if self._is_over:
            return False
        extended = await self._ledger.extend(attempt.hold, more_nusd=more_nusd)
        if extended is not None:
            attempt.hold = extended
        granted = self._granted if extended is None else wanted
        is_last = extended is None or granted == whole
        try:
            await self._client.raise_limit(self._call, max_tokens=granted, is_last=is_last)
        except ProviderFailed as failure:
            # It stays at the limit it knows, and ends there; what was held for more is given back when it has.
            _log.warning("slices.limit_not_raised", deployment=attempt.step.deployment.id, cause=failure.cause)
            return False
        self._granted = granted
        return not is_last

    def _bound_nusd(self, tokens: int) -> int:
        return clamped(self._attempt.step, self._attempt.request, max_tokens=tokens).hold_nusd
