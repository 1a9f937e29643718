"""Latencies by logarithmic bucket: histograms of days and deployments can be added, medians cannot."""

import math
from collections.abc import Mapping

STEPS_PER_DOUBLING = 4
"""A quantile read from a bucket is off by at most a twelfth."""


def bucket_of(latency_ms: int) -> int:
    """Return the bucket of a latency."""
    return math.floor(math.log2(max(latency_ms, 1)) * STEPS_PER_DOUBLING)


def quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Return the latency below which this share lies: the middle of its bucket, or None without a latency."""
    total = sum(counts.values())
    if total == 0:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return float(2 ** ((bucket + 0.5) / STEPS_PER_DOUBLING))
    raise AssertionError("a share is at most 1")
