"""What organizations learn from each other about providers' models: counts only, and nobody's count weighs much."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from auterity_dagster.relaycore.quality import EVALUATION, SHARED, QualityEvidence, label_weight

MAX_SHARE = 0.2
"""One organization's labels are at most this share of the shared prior, however many it sends."""

MAX_SHARED_WEIGHT = 20.0
"""The whole prior counts like so many observations: an organization's own labels soon outweigh it."""

PROVIDER_PREFIX = "provider:"
UNIFORM_WEIGHT = 2.0


class Contribution(NamedTuple):
    """What one organization's labels of one model at one task count together, and how much of it was good."""

    weight: float
    good: float


Key = tuple[str, str]
"""Task and artefact digest."""


def contributions(evidence: tuple[QualityEvidence, ...], *, now: datetime) -> Mapping[Key, Contribution]:
    """Return what an organization may contribute: labels of providers' models; its own models are its own affair."""
    found: dict[Key, Contribution] = {}
    for one in evidence:
        if one.source in (EVALUATION, SHARED) or not one.artefact_digest.startswith(PROVIDER_PREFIX):
            continue
        weight = label_weight(one, now=now)
        before = found.get((one.task, one.artefact_digest), Contribution(0, 0))
        found[one.task, one.artefact_digest] = Contribution(
            before.weight + weight, before.good + weight * one.mean_score
        )
    return found


def shared_prior(of_others: Mapping[UUID, Contribution]) -> Contribution:
    """Return the prior that others' labels give: each capped at a fifth of the whole, the uniform prior counted in.

    With few organizations the uniform prior is most of it: one alone moves it by half an observation.
    """
    known = [one for one in of_others.values() if one.weight > 0]
    cap = _cap([one.weight for one in known])
    weight = sum(min(one.weight, cap) for one in known)
    good = sum(min(one.weight, cap) * one.good / one.weight for one in known)
    scale = min(1.0, MAX_SHARED_WEIGHT / weight) if weight else 1.0
    return Contribution(weight * scale, good * scale)


def _cap(weights: list[float]) -> float:
    """The largest weight c with c ≤ 20 % of (uniform prior + Σ min(weight, c)), by bisection to 1e-9."""
    low, high = 0.0, max(weights, default=0.0)
    if high <= MAX_SHARE * (UNIFORM_WEIGHT + sum(weights)):
        return high
    while high - low > 1e-9:
        middle = (low + high) / 2
        if middle <= MAX_SHARE * (UNIFORM_WEIGHT + sum(min(one, middle) for one in weights)):
            low = middle
        else:
            high = middle
    return low
