"""Rate limits in Redis: one script counts every bucket of a request, all or nothing, on Redis's own clock.

No clock of a gateway is in it, so processes whose clocks differ admit no more together. A request may draw
from six buckets at once: the script takes from all of them or from none. Requests of an organization that arrive
while a call is under way share the next one: a call costs a gateway far more than what it asks.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auterity_dagster.relaycore.chat import Caller
from auterity_dagster.relaycore.rate_limit import (
    WINDOW_S,
    Admission,
    Bucket,
    LocalBuckets,
    RateLimit,
    buckets_of,
    rate_limited,
    standing,
    tightest,
)
from auterity_dagster.storage.group_commit import GroupCommit

ANSWER_WITHIN_S = 0.05
AGAIN_AFTER_S = 1.0
"""A Redis that did not answer is left alone for so long: nobody waits for it meanwhile."""

CORRECT_EVERY_S = 0.2
MICROSECONDS = 1_000_000
MAX_ASKED = 64
"""Requests in one call: Redis answers nobody else while it counts them."""

COUNT = """
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local window, is_correction = 60000000, ARGV[1] == 'correct'
local answers, key, argument = {}, 0, 1
while argument < #ARGV do
    local count = tonumber(ARGV[argument + 1])
    local before, after, refused, wait = {}, {}, 0, 0
    for i = 1, count do
        local amount, limit = ARGV[argument + 2 * i], ARGV[argument + 2 * i + 1]
        before[i] = math.max(tonumber(redis.call('GET', KEYS[key + i]) or 0), now)
        after[i] = math.max(before[i] + amount * window / limit, now)
        local excess = after[i] - now - window
        if not is_correction and excess > 0 and excess > wait then
            refused, wait = i, excess
        end
    end
    local answer = {refused, math.ceil(wait)}
    for i = 1, count do
        if refused == 0 then
            local used_ms = math.ceil((after[i] - now) / 1000)
            redis.call('SET', KEYS[key + i], string.format('%.3f', after[i]), 'PX', used_ms + 1)
        end
        answer[i + 2] = math.ceil((refused == 0 and after[i] or before[i]) - now)
    end
    answers[#answers + 1] = answer
    key, argument = key + count, argument + 1 + 2 * count
end
return answers
"""
"""Takes requests one after the other: how many buckets, then what each gives and its limit.

Returns for each request the number of the bucket that refuses (0: none), microseconds to wait, and how far each
bucket is used.
"""

Wanted = Sequence[tuple[Bucket, int]]
Counted = Sequence[int]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that waits for the next call; answered None when Redis does not."""

    wanted: Wanted
    answer: "asyncio.Future[Counted | None]"


_log = structlog.get_logger(__name__)


class RedisRateLimits:
    """The limits of this installation. While Redis is away each process admits its share: `floor(limit / live)`."""

    def __init__(
        self,
        redis: Redis,
        *,
        limits_of: Callable[[UUID], Awaitable[Mapping[UUID, RateLimit]]],
        live: Callable[[], int],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script = redis.register_script(COUNT)
        self._limits_of, self._live, self._now = limits_of, live, now
        self._local = LocalBuckets(now)
        self._calls = GroupCommit[_Asked](self._ask, limit=MAX_ASKED)
        self._again_at_s = 0.0
        self._corrections: Counter[tuple[UUID, Bucket]] = Counter()

    @property
    def is_local(self) -> bool:
        """True while Redis is away and this process admits its share."""
        return self._now() < self._again_at_s

    async def admit(self, caller: Caller, *, tokens: int) -> Admission | None:
        limits = await self._limits_of(caller.organization_id)
        if not limits:
            return None
        buckets = buckets_of(limits, caller)
        if not buckets:
            return None
        wanted = [(bucket, tokens if bucket.measure == "tokens" else 1) for bucket in buckets]
        answer = None if self.is_local else await self._answer(caller.organization_id, wanted)
        if answer is None:
            standings = self._local.admit(wanted, live=self._live())
        else:
            refused, wait, *used = answer
            standings = tuple(
                standing(bucket, used_s=microseconds / MICROSECONDS)
                for bucket, microseconds in zip(buckets, used, strict=True)
            )
            if refused:
                raise rate_limited(buckets[refused - 1], wait_s=wait / MICROSECONDS, standings=standings)
            self._local.note(wanted, live=self._live())
        return Admission(caller.organization_id, buckets, tokens, tightest(standings))

    def correct(self, admission: Admission, *, used_tokens: int) -> None:
        for bucket in admission.buckets:
            if bucket.measure == "tokens":
                self._corrections[admission.organization_id, bucket] += used_tokens - admission.tokens

    async def correct_for_ever(self) -> None:
        """Tell Redis again and again how estimates turned out; while it is away they stay as they are."""
        while True:
            await asyncio.sleep(CORRECT_EVERY_S)
            corrections, self._corrections = self._corrections, Counter()
            for (organization_id, bucket), tokens in corrections.items():
                if tokens and not self.is_local:
                    await self._counted(organization_id, [[(bucket, tokens)]], kind="correct")

    async def _answer(self, organization_id: UUID, wanted: Wanted) -> Counted | None:
        asked = _Asked(wanted, asyncio.get_running_loop().create_future())
        self._calls.submit(organization_id, asked)
        return await asked.answer

    async def _ask(self, organization_id: UUID, batch: list[_Asked]) -> None:
        answers = await self._counted(organization_id, [one.wanted for one in batch])
        if answers is None:
            # Who waits for the next call would only find out the same, later.
            batch += self._calls.take_waiting(organization_id)
        for one, answer in zip(batch, answers or [None] * len(batch), strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    async def _counted(
        self, organization_id: UUID, requests: Sequence[Wanted], *, kind: str = "admit"
    ) -> Sequence[Counted] | None:
        """Run the script; None when Redis does not answer in time."""
        prefix, keys, arguments = f"auterity:limit:{{{organization_id}}}", list[str](), list[str | int]([kind])
        for wanted in requests:
            arguments.append(len(wanted))
            for bucket, amount in wanted:
                keys.append(f"{prefix}:{bucket.scope}:{bucket.subject_id}:{bucket.measure}")
                arguments += (amount, bucket.limit)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            if not self.is_local:
                _log.warning("rate_limits_local", reason=type(error).__name__, live=self._live())
            self._again_at_s = self._now() + AGAIN_AFTER_S
            return None


assert WINDOW_S * MICROSECONDS == 60_000_000, "the script counts the same window"
