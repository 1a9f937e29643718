"""Rate limits in Redis: one script counts every bucket of a request, all or nothing, on Redis's own clock.

No clock of a gateway is in it, so processes whose clocks differ admit no more together. A request may draw
from six buckets at once: the script takes from all of them or from none.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
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

ANSWER_WITHIN_S = 0.05
AGAIN_AFTER_S = 1.0
"""A Redis that did not answer is left alone for so long: nobody waits for it meanwhile."""

CORRECT_EVERY_S = 0.2
MICROSECONDS = 1_000_000

COUNT = """
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local window, is_correction = 60000000, ARGV[1] == 'correct'
local before, after, refused, wait = {}, {}, 0, 0
for i = 1, #KEYS do
    before[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now)
    after[i] = math.max(before[i] + ARGV[2 * i] * window / ARGV[2 * i + 1], now)
    local excess = after[i] - now - window
    if not is_correction and excess > 0 and excess > wait then
        refused, wait = i, excess
    end
end
local answer = {refused, math.ceil(wait)}
for i = 1, #KEYS do
    if refused == 0 then
        redis.call('SET', KEYS[i], string.format('%.3f', after[i]), 'PX', math.ceil((after[i] - now) / 1000) + 1)
    end
    answer[i + 2] = math.ceil((refused == 0 and after[i] or before[i]) - now)
end
return answer
"""
"""Returns the number of the bucket that refuses (0: none), microseconds to wait, and how far each bucket is used."""

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
        answer = None if self.is_local else await self._counted(caller.organization_id, wanted)
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
                    await self._counted(organization_id, [(bucket, tokens)], kind="correct")

    async def _counted(
        self, organization_id: UUID, wanted: Sequence[tuple[Bucket, int]], *, kind: str = "admit"
    ) -> list[int] | None:
        """Run the script; None when Redis does not answer in time."""
        keys = [
            f"auterity:limit:{{{organization_id}}}:{bucket.scope}:{bucket.subject_id}:{bucket.measure}"
            for bucket, _ in wanted
        ]
        arguments = [kind, *(number for bucket, amount in wanted for number in (amount, bucket.limit))]
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            if not self.is_local:
                _log.warning("rate_limits_local", reason=type(error).__name__, live=self._live())
            self._again_at_s = self._now() + AGAIN_AFTER_S
            return None


assert WINDOW_S * MICROSECONDS == 60_000_000, "the script counts the same window"
