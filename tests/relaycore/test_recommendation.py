"""Recommendations are made only when they surely save money at a quality that is surely good enough."""

from datetime import date, timedelta

import pytest

from auterity_dagster.relaycore.latency_histogram import bucket_of, quantile_ms
from auterity_dagster.relaycore.pricing import Price, Rates
from auterity_dagster.relaycore.quality import Quality
from auterity_dagster.relaycore.recommendation import (
    DayOfUse,
    Option,
    Recommendation,
    patch_of,
    realised,
    recommend,
)

FIRST = date(2026, 3, 1)
GOOD, UNKNOWN = Quality(95, 5), Quality()


def price(name: str, dollars: int) -> Price:
    rate = dollars * 1_000_000_000
    return Price(name, FIRST, (Rates(0, rate, rate * 4, None, None, None),), "digest", "test")


def days(count: int, *, requests: int, nusd: int, answer: int = 100, first: date = FIRST) -> tuple[DayOfUse, ...]:
    return tuple(
        DayOfUse(first + timedelta(days=number), requests, requests * 400, requests * answer, requests * nusd)
        for number in range(count)
    )


DEAR = Option("dear", price("dear", 10), GOOD, days(20, requests=50, nusd=8_000_000))


def asked(*options: Option, current: Option = DEAR) -> Recommendation | None:
    return recommend("lead_reply", current, (current, *options), floor=0.7, seed=1)


def test_a_cheaper_model_that_is_surely_good_enough_is_recommended_with_its_interval() -> None:
    found = asked(Option("cheap", price("cheap", 1), GOOD, ()))

    assert found is not None
    assert (found.from_deployment, found.to_deployment, found.requests, found.days) == ("dear", "cheap", 1000, 20)
    assert 0 < found.saving_low_nusd < found.saving_nusd < found.saving_high_nusd
    # 50 requests a day that cost 8 million and would cost 0.8 million, for 30.4 days.
    assert found.saving_nusd == pytest.approx(50 * 7_200_000 * 30.4, rel=0.01)
    assert -0.1 < found.quality_change_low < 0


@pytest.mark.parametrize(
    "option",
    [
        Option("unproven", price("unproven", 1), UNKNOWN, ()),
        Option("bad", price("bad", 1), Quality(30, 70), ()),
        Option("as dear", price("as dear", 10), GOOD, ()),
        Option("dearer", price("dearer", 30), GOOD, ()),
        Option("cheap but wordy", price("cheap but wordy", 5), GOOD, days(20, requests=10, nusd=1, answer=900)),
    ],
)
def test_nothing_is_recommended_that_is_not_surely_cheaper_and_good(option: Option) -> None:
    assert asked(option) is None


def test_little_usage_says_too_little() -> None:
    cheap = Option("cheap", price("cheap", 1), GOOD, ())

    assert asked(cheap, current=Option("dear", DEAR.price, GOOD, days(5, requests=50, nusd=8_000_000))) is None
    assert asked(cheap, current=Option("dear", DEAR.price, GOOD, days(20, requests=2, nusd=8_000_000))) is None


def test_of_several_the_one_that_surely_saves_most_is_taken() -> None:
    found = asked(Option("half", price("half", 5), GOOD, ()), Option("tenth", price("tenth", 1), GOOD, ()))

    assert found is not None
    assert found.to_deployment == "tenth"


def test_the_patch_is_a_pool_and_a_rule_for_that_task() -> None:
    found = asked(Option("cheap", price("cheap", 1), GOOD, ()))
    assert found is not None

    patch = patch_of(found, priority=900)

    assert patch["pools"] == {"recommended-lead-reply": ["cheap", "dear"]}
    assert patch["rules"] == [
        {
            "id": "recommended-lead-reply",
            "priority": 900,
            "when": {"features.task": {"eq": "lead_reply"}},
            "then": {"pool": "recommended-lead-reply", "on_no_candidates": "relax"},
        }
    ]


def test_the_realised_saving_is_measured_and_may_be_a_loss() -> None:
    before = days(10, requests=50, nusd=8_000_000)

    saved = realised(before, days(10, requests=100, nusd=2_000_000), seed=0)
    lost = realised(before, days(10, requests=100, nusd=9_000_000), seed=0)

    assert saved is not None
    assert saved[0] == pytest.approx(100 * 6_000_000 * 30.4)
    assert lost is not None
    assert lost[2] < 0
    assert realised(before, days(3, requests=100, nusd=1), seed=0) is None


def test_quantiles_of_added_histograms_are_within_a_tenth() -> None:
    counts: dict[int, int] = {}
    for latency_ms in range(1, 2001):
        counts[bucket_of(latency_ms)] = counts.get(bucket_of(latency_ms), 0) + 1

    assert quantile_ms(counts, 0.5) == pytest.approx(1000, rel=0.1)
    assert quantile_ms(counts, 0.95) == pytest.approx(1900, rel=0.1)
    assert quantile_ms({}, 0.5) is None
