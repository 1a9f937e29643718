"""What a gateway process sees of its deployments: latency sketches, failures, load, answer lengths, warm prompt caches.

`LiveFacts` is written by the gateway as attempts begin and end; `Live` is the frozen view that routing reads.
"""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

BUCKETS = 40
"""Two an octave from 1 ms: the last one begins at about 12 minutes."""
HALF_LIFE_S = 120.0
"""Counts fade: a deployment that was slow and gets no calls is tried again after some minutes."""
MEAN_OVER = 1_000
VIEW_S = 0.25
WARM_S = 300.0
"""Providers keep a prompt's beginning for about five minutes."""
REMEMBERED = 10_000
"""So many prompt beginnings and organizations are kept."""
LENGTHS = 500
"""So many pairs of task and deployment are kept of one organization."""
UPPER_STEP = 40
"""Tokens: how far one answer moves what nine of ten are said to keep to."""
MIN_SAMPLES = 20
"""Fewer calls than this say nothing about lateness or length."""


Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class LatencySketch:
    """How often whole answers took how long: counts in buckets whose bounds grow by √2 from 1 ms."""

    counts: tuple[int, ...] = ()

    def share_above(self, limit_ms: int) -> float:
        """Return the share of answers that took longer; 0 with too few answers to say."""
        total = sum(self.counts)
        if total < MIN_SAMPLES:
            return 0.0
        place = 2 * math.log2(max(limit_ms, 1))
        bucket = int(place)
        within = self.counts[bucket] if bucket < len(self.counts) else 0
        return (sum(self.counts[bucket + 1 :]) + within * (1 - (place - bucket))) / total


@dataclass(frozen=True, slots=True)
class Live:
    """The view of one moment, by deployment id. `output_tokens` is the mean length of answers, by task, then by id."""

    latency: Mapping[str, LatencySketch] = field(default_factory=dict[str, LatencySketch])
    failed_share: Mapping[str, float] = field(default_factory=dict[str, float])
    load: Mapping[str, int] = field(default_factory=dict[str, int])
    output_tokens: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    warm: frozenset[str] = frozenset()


NOTHING_SEEN = Live()


@dataclass(slots=True)
class _Seen:
    """One deployment's counts; all are halved together, so that old ones fade."""

    fade_at_s: float
    latency: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    calls: int = 0
    failures: int = 0

    def note(self, *, latency_ms: int, is_failure: bool) -> None:
        self.calls += 1
        if is_failure:
            self.failures += 1
        else:
            self.latency[min(int(2 * math.log2(max(latency_ms, 1))), BUCKETS - 1)] += 1

    def fade(self, now_s: float) -> None:
        while self.fade_at_s <= now_s and self.calls:
            self.calls, self.failures = self.calls // 2, self.failures // 2
            self.latency = [count // 2 for count in self.latency]
            self.fade_at_s += HALF_LIFE_S
        if not self.calls:
            self.fade_at_s = now_s + HALF_LIFE_S


@dataclass(frozen=True, slots=True)
class Observation:
    """How one attempt ended. `completion_tokens` is None where the provider reported none.

    `is_failure` is None where the end says nothing about the deployment: the caller's own fault, a credential.
    """

    organization_id: UUID
    deployment_id: str
    task: str | None
    latency_ms: int
    is_failure: bool | None
    completion_tokens: int | None
    prefix_digest: str | None


@dataclass(slots=True)
class _Lengths:
    """How long answers are: their mean, and about what nine of ten keep to.

    The quantile moves a step up for a longer answer and a ninth of it down for another: one number, whatever the count
    (Ma, Muthukrishnan and Sandler, "Frugal streaming for estimating quantiles", 2013).
    """

    upper: float
    count: int = 0
    mean: float = 0.0

    def note(self, tokens: int) -> None:
        self.count = min(self.count + 1, MEAN_OVER)
        self.mean += (tokens - self.mean) / self.count
        self.upper += 0.9 * UPPER_STEP if tokens > self.upper else -0.1 * UPPER_STEP


class LiveFacts:
    """One process's own record, bounded in size; a view is made anew at most four times a second."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._load: Counter[str] = Counter()
        self._lengths: OrderedDict[UUID, dict[tuple[str, str], _Lengths]] = OrderedDict()
        self._warm_until: OrderedDict[tuple[UUID, str, str], float] = OrderedDict()
        self._views: dict[UUID, tuple[float, Live]] = {}

    def began(self, deployment_id: str) -> None:
        """An attempt is under way."""
        self._load[deployment_id] += 1

    def ended(self, seen: Observation) -> None:
        """An attempt ended, one way or the other."""
        self._load[seen.deployment_id] -= 1
        if seen.is_failure is None:
            return
        if seen.deployment_id not in self._seen:
            self._seen[seen.deployment_id] = _Seen(self._now() + HALF_LIFE_S)
        self._seen[seen.deployment_id].note(latency_ms=seen.latency_ms, is_failure=seen.is_failure)
        if seen.is_failure:
            return
        if seen.task is not None and seen.completion_tokens is not None:
            self._note_length(seen.organization_id, (seen.task, seen.deployment_id), seen.completion_tokens)
        if seen.prefix_digest is not None:
            place = (seen.organization_id, seen.deployment_id, seen.prefix_digest)
            _remember(self._warm_until, place, self._now() + WARM_S)

    def usual_tokens(self, organization_id: UUID, task: str | None, deployment_id: str) -> int | None:
        """Return about what nine of ten answers to a task keep to; None with too few to say."""
        seen = self._lengths.get(organization_id, {}).get((task or "", deployment_id))
        return None if seen is None or seen.count < MIN_SAMPLES else math.ceil(seen.upper)

    def view(self, organization_id: UUID, *, deployment_ids: Mapping[str, object], prefix_digest: str | None) -> Live:
        """Return what is seen now; `warm` names the deployments that lately read this beginning."""
        at, live = self._views.get(organization_id, (-math.inf, NOTHING_SEEN))
        if self._now() - at >= VIEW_S:
            live = self._view(organization_id, deployment_ids)
            if len(self._views) >= REMEMBERED:
                self._views.clear()
            self._views[organization_id] = (self._now(), live)
        warm = frozenset[str]()
        if prefix_digest is not None:
            now = self._now()
            warm = frozenset(
                one for one in deployment_ids if self._warm_until.get((organization_id, one, prefix_digest), 0) > now
            )
        busy = {one: count for one, count in self._load.items() if count and one in deployment_ids}
        return Live(live.latency, live.failed_share, busy, live.output_tokens, warm)

    def _view(self, organization_id: UUID, deployment_ids: Mapping[str, object]) -> Live:
        known = {one: self._seen[one] for one in deployment_ids if one in self._seen}
        for seen in known.values():
            seen.fade(self._now())
        lengths: dict[str, dict[str, int]] = {}
        for (task, deployment_id), seen in self._lengths.get(organization_id, {}).items():
            if seen.count >= MIN_SAMPLES:
                lengths.setdefault(task, {})[deployment_id] = math.ceil(seen.mean)
        return Live(
            latency={one: LatencySketch(tuple(seen.latency)) for one, seen in known.items()},
            failed_share={one: seen.failures / (seen.calls + 10) for one, seen in known.items()},
            output_tokens=lengths,
        )

    def _note_length(self, organization_id: UUID, place: tuple[str, str], tokens: int) -> None:
        lengths = self._lengths.get(organization_id, {})
        if place in lengths or len(lengths) < LENGTHS:
            lengths.setdefault(place, _Lengths(upper=tokens)).note(tokens)
            _remember(self._lengths, organization_id, lengths)


def _remember(memory: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
