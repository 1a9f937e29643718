"""APGR and CPT on cases that can be worked out by hand, and their intervals."""

import math

import numpy as np
import pytest

from auterity_dagster.relaycore.outcomes import Outcome, outcome_table, split
from auterity_dagster.relaycore.routing_curve import choices, interval, pair_curve, pair_draws, pair_figures, prices

GAINS = np.array([1.0] * 25 + [0.0] * 75)


def test_a_perfect_order_recovers_everything_at_the_share_that_gains() -> None:
    found = pair_figures(GAINS, GAINS)

    assert (found.cpt50, found.cpt80) == (pytest.approx(0.13, abs=0.011), pytest.approx(0.2, abs=0.001))
    assert found.apgr == pytest.approx(0.25 / 2 + 0.75, abs=0.001)


def test_the_worst_order_is_as_far_below_a_coin_as_the_best_is_above() -> None:
    best, worst = pair_figures(GAINS, GAINS), pair_figures(GAINS, -GAINS)

    assert best.apgr + worst.apgr == pytest.approx(1, abs=1e-9)


def test_a_constant_is_a_coin_whatever_the_rows_order() -> None:
    found = pair_figures(GAINS, np.zeros(100))

    assert (found.apgr, found.cpt50, found.cpt80) == (pytest.approx(0.5), 0.5, 0.8)


def test_without_an_advantage_there_is_nothing_to_recover() -> None:
    found = pair_figures(np.zeros(100), np.arange(100.0))

    assert math.isnan(found.apgr)
    assert math.isnan(found.cpt50)


def test_the_interval_covers_the_figure_and_repeats_by_seed() -> None:
    random = np.random.default_rng(1)
    gains = (random.random(400) < 0.3).astype(float)
    wanted = gains + random.normal(size=400)

    drawn = [one.apgr for one in pair_draws(gains, wanted, seed=3)]
    low, high = interval(drawn)

    assert low < pair_figures(gains, wanted).apgr < high
    assert high - low < 0.15
    assert drawn == [one.apgr for one in pair_draws(gains, wanted, seed=3)]


def test_the_curve_begins_with_the_weak_model_and_ends_with_the_strong() -> None:
    weak, strong = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    points = pair_curve(weak, strong, np.full(4, 1.0), np.full(4, 10.0), strong - weak)

    assert (points[0].quality, points[0].cost) == (0.5, 1.0)
    assert (points[-1].quality, points[-1].cost) == (0.75, 10.0)
    assert max(point.quality for point in points) == 1.0


def test_a_higher_price_of_cost_chooses_cheaper_models() -> None:
    scores, costs = np.array([[0.5, 0.9], [0.8, 0.85]]), np.array([[1.0, 10.0], [1.0, 10.0]])

    spent = [costs[[0, 1], choices(scores, costs, price=price)].sum() for price in prices(scores, costs)]

    assert spent == sorted(spent, reverse=True)
    assert (spent[0], spent[-1]) == (20.0, 2.0)


def test_equal_costs_leave_only_quality() -> None:
    scores, costs = np.array([[0.5, 0.9], [0.8, 0.7]]), np.ones((2, 2))

    assert [choices(scores, costs, price=price).tolist() for price in prices(scores, costs)] == [[1, 0]]


def test_a_prompt_is_never_on_both_sides_of_a_split_even_under_two_tasks() -> None:
    rows = [
        Outcome(f"prompt {number}", task, model, 0.5, 1.0)
        for number in range(60)
        for task in ("one", "two")
        for model in ("a", "b")
    ]

    train, test = split(outcome_table(rows), share=0.6, seed=0)

    assert len(train) + len(test) == 120
    assert not set(train.prompts) & set(test.prompts)
