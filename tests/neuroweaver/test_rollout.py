"""Shadow, canary, promotion, rollback: a thousand challengers of known worth, and every reason to go back."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import repeat

import numpy as np
import pytest

from auterity_dagster.neuroweaver.rollout import Challenge, Observed, next_step, why_wait
from auterity_dagster.neuroweaver.sequential import FIRES_AT, Winner, harm_evidence, pair_test
from tests.neuroweaver.challengers import BETTER, NOW, WORSE, assert_worse_stay_and_better_come, not_lower, shares


def test_of_challengers_two_points_worse_few_are_promoted_and_of_those_five_points_better_most() -> None:
    assert_worse_stay_and_better_come(shares("standard", each=40))


def test_not_lower_on_fifty_items_promotes_far_too_many_worse_ones() -> None:
    random = np.random.default_rng(17)
    found = tuple(sum(not_lower(random, one, items=50) for _ in range(500)) / 500 for one in (WORSE, BETTER))

    with pytest.raises(AssertionError):
        assert_worse_stay_and_better_come((found[0], found[1]))
    assert found[0] > 0.3


def pairs(wins: int, losses: int, ties: int = 0) -> list[Winner]:
    """Evenly mixed, so that no run of luck decides; the ties first."""
    won: list[tuple[float, Winner]] = [((at + 0.5) / wins, "challenger") for at in range(wins)]
    lost: list[tuple[float, Winner]] = [((at + 0.5) / losses, "champion") for at in range(losses)]
    return [*repeat("tie", ties), *(winner for _, winner in sorted(won + lost))]


@pytest.mark.parametrize(
    ("winners", "answer"),
    [
        (pairs(0, 0), "undecided"),
        (pairs(16, 0), "undecided"),  # 2.92, and too few pairs
        (pairs(16, 0, ties=34), "better"),
        (pairs(0, 11), "not better"),  # -2.45
        (pairs(0, 10), "undecided"),
        (pairs(56, 44), "undecided"),
        (pairs(331, 269), "keep"),
        (pairs(200, 100), "better"),
    ],
)
def test_pairs_decide_at_their_bounds(winners: Sequence[Winner], answer: str) -> None:
    assert pair_test(winners).answer == answer


def test_a_decided_test_does_not_go_on() -> None:
    assert pair_test([*pairs(0, 11), *pairs(300, 0)]).answer == "not better"


def test_harm_is_seen_soon_and_rarely_where_there_is_none() -> None:
    random = np.random.default_rng(3)

    false_alarms = sum(harm_evidence(random.random(600) < 0.02) >= FIRES_AT for _ in range(1000))
    needed = [_requests_until_alarm(random.random(2000) < 0.1) for _ in range(200)]

    assert false_alarms / 1000 <= 0.015
    assert 40 <= np.median(needed) <= 90


def _requests_until_alarm(harms: np.ndarray) -> int:
    steps = np.cumsum(np.where(harms, np.log(3.0), np.log(0.94 / 0.98)))
    return int(np.argmax(steps >= np.log(FIRES_AT))) + 1


SLOW, FAST = [250] * 200, [100] * 200


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (Observed(critical_events=1), "1 critical events"),
        (Observed(failed_health_checks=3), "3 health checks failed"),
        (Observed(requests=50, errors=3), "3 of 50 requests failed"),
        (Observed(latencies_ms=SLOW, champion_latencies_ms=FAST), "p95 250 ms, the champion's is 100 ms"),
        (Observed(harms=[False] * 10 + [True] * 5), "5 of 15 outcomes are harm"),
    ],
    ids=["critical", "health", "errors", "slow", "harm"],
)
@pytest.mark.parametrize("weight", [1, 25])
def test_each_harm_takes_the_traffic_back(weight: int, observed: Observed, said: str) -> None:
    step = next_step(Challenge(weight, NOW, observed, ()), now=NOW, switches_today=9, last_switch_at=NOW)

    assert (step.move, step.weight_percent) == ("roll_back", 0)
    assert said in step.reason


@pytest.mark.parametrize(
    "observed",
    [
        Observed(failed_health_checks=2),
        Observed(requests=49, errors=49),
        Observed(requests=100, errors=5),
        Observed(latencies_ms=SLOW[:199], champion_latencies_ms=FAST),
        Observed(harms=[True] * 4),
    ],
    ids=["health", "few", "errors", "slow", "harm"],
)
def test_what_is_within_the_limits_takes_nothing_back(observed: Observed) -> None:
    step = next_step(Challenge(5, NOW, observed, ()), now=NOW, switches_today=0, last_switch_at=None)

    assert step.move == "stay"


def test_a_challenger_goes_up_step_by_step_and_not_before_its_time() -> None:
    weights, now = [0], NOW
    while weights[-1] < 100:
        challenge = Challenge(weights[-1], now, Observed(requests=499), pairs(200, 100))
        if weights[-1]:
            assert next_step(challenge, now=now, switches_today=0, last_switch_at=None).move == "stay"
        now += timedelta(hours=24)
        weights.append(next_step(challenge, now=now, switches_today=0, last_switch_at=None).weight_percent)

    assert weights == [0, 1, 5, 25, 100]


def test_automation_waits_after_a_switch_and_switches_twice_a_day_at_most() -> None:
    assert why_wait(now=NOW, switches_today=0, last_switch_at=NOW - timedelta(hours=6)) is None
    assert why_wait(now=NOW, switches_today=0, last_switch_at=NOW - timedelta(hours=5)) is not None
    assert why_wait(now=NOW, switches_today=2, last_switch_at=None) == "2 switches today, 2 are allowed"
    last = Challenge(25, NOW - timedelta(days=2), Observed(requests=600), ())
    assert next_step(last, now=NOW, switches_today=2, last_switch_at=None).move == "stay"
