"""How much traffic a challenger gets next: shadow, 1, 5, 25 and 100 %, and back at once when it harms.

The caller reads what happened and carries out what is decided here; nothing else decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from auterity_dagster.neuroweaver.sequential import FIRES_AT, Winner, harm_evidence, pair_test
from auterity_dagster.neuroweaver.switching import CANARY_STEPS

STEP_TIME = timedelta(hours=24)
STEP_REQUESTS = 500
"""A step lasts until either is reached."""

COOL_DOWN = timedelta(hours=6)
SWITCHES_A_DAY = 2

HEALTH_FAILURES = 3
ERROR_SHARE, ERROR_REQUESTS = 0.05, 50
SLOWER, SLOWER_REQUESTS = 2.0, 200

Move = Literal["stay", "advance", "promote", "retire", "roll_back"]


@dataclass(frozen=True, slots=True)
class Observed:
    """What a model did since it got its present share, oldest first.

    `harms` has one entry for each request whose outcome is known; `latencies_ms` are those of answered requests.
    """

    critical_events: int = 0
    failed_health_checks: int = 0
    requests: int = 0
    errors: int = 0
    latencies_ms: Sequence[int] = ()
    champion_latencies_ms: Sequence[int] = ()
    harms: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenger on its way: the share it has (0 in the shadow), since when, and what became of it so far."""

    weight_percent: int
    since: datetime
    observed: Observed
    winners: Sequence[Winner]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, with which share afterwards, and why in words."""

    move: Move
    weight_percent: int
    reason: str


def next_step(challenge: Challenge, *, now: datetime, switches_today: int, last_switch_at: datetime | None) -> Decision:
    """Decide about a challenger. Harm is looked at first: no wait and no limit holds a step back."""
    harm = why_harmful(challenge.observed)
    if harm is not None:
        return Decision("roll_back", 0, harm)
    pairs = pair_test(challenge.winners)
    told = f"{pairs.wins} won, {pairs.losses} lost, {pairs.ties} tied, log ratio {pairs.log_ratio:+.2f}"
    if challenge.weight_percent == 0:
        if pairs.answer == "undecided":
            return Decision("stay", 0, f"shadow: {told}")
        if pairs.answer != "better":
            return Decision("retire", 0, f"the champion stays: {told}")
        return Decision("advance", CANARY_STEPS[0], f"better than the champion: {told}")
    if now - challenge.since < STEP_TIME and challenge.observed.requests < STEP_REQUESTS:
        return Decision("stay", challenge.weight_percent, f"{challenge.observed.requests} of {STEP_REQUESTS} requests")
    larger = [step for step in CANARY_STEPS if step > challenge.weight_percent]
    if larger:
        return Decision("advance", larger[0], f"no harm in {challenge.observed.requests} requests")
    if (wait := why_wait(now=now, switches_today=switches_today, last_switch_at=last_switch_at)) is not None:
        return Decision("stay", challenge.weight_percent, wait)
    return Decision("promote", 100, f"no harm in {challenge.observed.requests} requests at its last step")


def why_harmful(observed: Observed) -> str | None:
    """Return why a model must lose its traffic now, or None."""
    if observed.critical_events:
        return f"{observed.critical_events} critical events"
    if observed.failed_health_checks >= HEALTH_FAILURES:
        return f"{observed.failed_health_checks} health checks failed in a row"
    if observed.requests >= ERROR_REQUESTS and observed.errors > ERROR_SHARE * observed.requests:
        return f"{observed.errors} of {observed.requests} requests failed"
    if min(len(observed.latencies_ms), len(observed.champion_latencies_ms)) >= SLOWER_REQUESTS:
        own, other = _p95(observed.latencies_ms), _p95(observed.champion_latencies_ms)
        if own > SLOWER * other:
            return f"p95 {own} ms, the champion's is {other} ms"
    evidence = harm_evidence(observed.harms)
    if evidence >= FIRES_AT:
        return f"{sum(observed.harms)} of {len(observed.harms)} outcomes are harm (evidence {evidence:.0f})"
    return None


def why_wait(*, now: datetime, switches_today: int, last_switch_at: datetime | None) -> str | None:
    """Return why automation may not switch a scope yet, or None."""
    if last_switch_at is not None and now - last_switch_at < COOL_DOWN:
        return f"the last switch was at {last_switch_at:%H:%M}; {COOL_DOWN.seconds // 3600} hours must pass"
    if switches_today >= SWITCHES_A_DAY:
        return f"{switches_today} switches today, {SWITCHES_A_DAY} are allowed"
    return None


def _p95(latencies_ms: Sequence[int]) -> int:
    ordered = sorted(latencies_ms)
    return ordered[-(-95 * len(ordered) // 100) - 1]
