"""Trying another deployment than the choice now and then: what is never chosen is never learned about.

The draw is made from the request's id: a stored decision draws the same again.
"""

from collections.abc import Sequence

from auterity_dagster.relaycore.allowance import EXPLORATION
from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.personal_data import is_restricted
from auterity_dagster.relaycore.sampling import drawn
from auterity_dagster.relaycore.steering_candidates import Candidate
from auterity_dagster.relaycore.steering_policy import Objective
from auterity_dagster.relaycore.steering_ranking import MAX_FALLBACKS, may_be_tried, missed_limit
from auterity_dagster.relaycore.steering_rules import Decision
from auterity_dagster.relaycore.steering_split import Split
from auterity_dagster.relaycore.thompson import arm_at, winning_shares

LEAST_CHANCE = 1e-9
"""Chances are sums of fractions: what happened is never told to have been impossible, or more than certain."""


def with_draws(
    chosen: list[Candidate],
    split: Split,
    *,
    candidates: Sequence[Candidate],
    excluded: Sequence[Candidate],
    objective: Objective,
    decision: Decision,
    request: ChatRequest,
    snapshot: CatalogSnapshot,
) -> tuple[list[Candidate], float]:
    """Return the route, with another one first for a few requests, and how likely the first one was to be first.

    `excluded` are the arms whose share are other requests. An arm is never replaced: its share is exact.
    """
    if split.mine is not None and chosen[0].id == split.mine:
        return chosen, split.shares[split.mine]
    elsewhere = sum(
        split.shares[one.id]
        for one in excluded
        if one.id not in snapshot.breaker_open
        and missed_limit(one, objective, decision, request, is_explicit=False) is None
    )
    chosen, chance = _explored(chosen, candidates, objective, decision, request, snapshot)
    return chosen, min(max((1 - elsewhere) * chance, LEAST_CHANCE), 1.0)


def _explored(
    chosen: list[Candidate],
    candidates: Sequence[Candidate],
    objective: Objective,
    decision: Decision,
    request: ChatRequest,
    snapshot: CatalogSnapshot,
) -> tuple[list[Candidate], float]:
    """Another one first where one is tried, only if it may turn out good enough, and never with restricted data.

    The choice is its stand-in, for failures and for when the day's allowance is used up.
    """
    exploration, choice = decision.exploration, chosen[0]
    if exploration is None or is_restricted(request):
        return chosen, 1.0
    posteriors = [(one, snapshot.quality_of(one.deployment, request.task)) for one in candidates]
    eligible = [
        (one, quality)
        for one, quality in posteriors
        if may_be_tried(one, quality.upper_bound, objective, decision, request)
    ]
    if not eligible:
        return chosen, 1.0
    shares = winning_shares(tuple(quality for _, quality in eligible))
    chances = {one.id: exploration.share * share for (one, _), share in zip(eligible, shares, strict=True)}
    chances[choice.id] = chances.get(choice.id, 0.0) + 1 - exploration.share
    if drawn(request.id, EXPLORATION) >= exploration.share:
        return chosen, chances[choice.id]
    arm, _ = eligible[arm_at(shares, drawn(request.id, f"{EXPLORATION} arm"))]
    if arm is not choice:
        arm.is_explored, arm.is_degraded, arm.removed_by = True, arm.removed_by is not None, None
        chosen = [arm, *[one for one in chosen if one is not arm][:MAX_FALLBACKS]]
    return chosen, chances[arm.id]
