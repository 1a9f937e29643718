"""Rate limits: requests and tokens a minute of a key, a dealership and an organization, counted by GCRA.

A bucket lets a minute's worth through at once and refills evenly: what is admitted in `t` seconds is at most
`limit * t / 60 + limit`. Its whole state is one instant, the "theoretical arrival time", up to which it is used.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from auterity_dagster.errors import RateLimited
from auterity_dagster.relaycore.chat import Caller

LimitScope = Literal["organization", "dealership", "key"]
Measure = Literal["requests", "tokens"]
WINDOW_S = 60.0
LARGEST_LIMIT = 10**9
MAX_LOCAL_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one key, dealership or organization may use a minute; None: as much as it likes."""

    scope: LimitScope
    subject_id: UUID
    requests_per_minute: int | None
    tokens_per_minute: int | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """One measure of one limit."""

    scope: LimitScope
    subject_id: UUID
    measure: Measure
    limit: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a bucket stands: what is left now, and in how many seconds it is full again."""

    bucket: Bucket
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was let in: what it was taken to need, and for each measure the bucket with the least left."""

    organization_id: UUID
    buckets: tuple[Bucket, ...]
    tokens: int
    tightest: tuple[Standing, ...]


def buckets_of(limits: Mapping[UUID, RateLimit], caller: Caller) -> tuple[Bucket, ...]:
    """Return the buckets that a caller draws from."""
    found: list[Bucket] = []
    for subject_id in (caller.key_id, caller.dealership_id, caller.organization_id):
        limit = limits.get(subject_id) if subject_id is not None else None
        if limit is None:
            continue
        if limit.requests_per_minute is not None:
            found.append(Bucket(limit.scope, limit.subject_id, "requests", limit.requests_per_minute))
        if limit.tokens_per_minute is not None:
            found.append(Bucket(limit.scope, limit.subject_id, "tokens", limit.tokens_per_minute))
    return tuple(found)


def standing(bucket: Bucket, *, used_s: float) -> Standing:
    """Return how a bucket stands that is used up to `used_s` seconds from now."""
    left = math.floor((WINDOW_S - used_s) * bucket.limit / WINDOW_S + 1e-6)
    return Standing(bucket, max(left, 0), max(used_s, 0.0))


def tightest(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    """Return for each measure the standing with the least left."""
    found: dict[Measure, Standing] = {}
    for one in standings:
        if one.bucket.measure not in found or one.remaining < found[one.bucket.measure].remaining:
            found[one.bucket.measure] = one
    return tuple(found.values())


def rate_limited(bucket: Bucket, *, wait_s: float, standings: Sequence[Standing]) -> RateLimited:
    """Return the error of a request that a bucket has no room for until `wait_s` seconds from now."""
    return RateLimited(
        f"The limit of {bucket.limit} {bucket.measure} a minute for this {bucket.scope} is reached.",
        scope=bucket.scope,
        measure=bucket.measure,
        limit=bucket.limit,
        retry_after_s=max(math.ceil(wait_s), 1),
        standings=tightest(standings),
    )


@dataclass(slots=True)
class LocalBuckets:
    """The same count in this process alone, for when the shared one is away: each bucket at `1 / live` of its limit."""

    now: Callable[[], float]
    _used_until_s: dict[Bucket, float] = field(default_factory=dict[Bucket, float])

    def admit(self, wanted: Sequence[tuple[Bucket, int]], *, live: int) -> tuple[Standing, ...]:
        """Take so much from every bucket, or nothing and raise `RateLimited`."""
        now_s, taken, standings = self.now(), dict[Bucket, float](), list[Standing]()
        refusal: tuple[Bucket, float] | None = None
        for bucket, amount in wanted:
            share = bucket.limit // max(live, 1)
            before = max(self._used_until_s.get(bucket, now_s), now_s)
            after = before + amount * WINDOW_S / share if share else math.inf
            wait_s = after - now_s - WINDOW_S
            if wait_s > 1e-9 and (refusal is None or wait_s > refusal[1]):
                refusal = bucket, min(wait_s, WINDOW_S)
            taken[bucket] = after
            standings.append(standing(bucket, used_s=WINDOW_S if math.isinf(after) else after - now_s))
        if refusal is not None:
            raise rate_limited(refusal[0], wait_s=refusal[1], standings=standings)
        self._keep(taken)
        return tuple(standings)

    def note(self, wanted: Sequence[tuple[Bucket, int]], *, live: int) -> None:
        """Count what the shared buckets let through: losing them grants no second burst."""
        now_s = self.now()
        for bucket, amount in wanted:
            share = max(bucket.limit // max(live, 1), 1)
            before = max(self._used_until_s.get(bucket, now_s), now_s)
            self._keep({bucket: min(before + amount * WINDOW_S / share, now_s + WINDOW_S)})

    def _keep(self, taken: Mapping[Bucket, float]) -> None:
        if len(self._used_until_s) > MAX_LOCAL_BUCKETS:
            now_s = self.now()
            self._used_until_s = {one: until for one, until in self._used_until_s.items() if until > now_s}
        self._used_until_s.update(taken)
