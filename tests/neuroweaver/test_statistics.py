"""The statistics agree with published values and hold what they promise; repeatable by seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auterity_dagster.neuroweaver.statistics import (
    clopper_pearson,
    holm,
    items_needed,
    margin_shown,
    mcnemar,
    mean_interval,
    paired_difference,
    upper_bound,
)


def test_sample_sizes_are_those_of_the_rule() -> None:
    assert items_needed(margin=0.02, discordance=0.1) == 1546
    assert items_needed(margin=0.05, discordance=0.1) == 248
    assert margin_shown(items=32, discordance=0.1) == pytest.approx(0.139, abs=1e-3)


@given(st.integers(1, 400), st.floats(0, 1))
def test_exact_intervals_agree_with_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)

    ours = clopper_pearson(successes, trials, confidence=0.95)
    theirs = stats.binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")

    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_no_event_in_64_answers_leaves_less_than_five_percent() -> None:
    assert upper_bound(0, 64, confidence=0.95) == pytest.approx(0.0457, abs=1e-4)
    assert upper_bound(0, 0, confidence=0.95) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_agrees_with_the_binomial_test(pairs: list[tuple[bool, bool]]) -> None:
    found = mcnemar([one for one, _ in pairs], [other for _, other in pairs])

    decisive = found.wins + found.losses
    expected = stats.binomtest(found.wins, decisive, 0.5).pvalue if decisive else 1.0
    assert found.p_two_sided == pytest.approx(expected, abs=1e-9)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_holm_only_raises_p_values_and_keeps_their_order(p_values: dict[str, float]) -> None:
    adjusted = holm(p_values)

    assert all(p <= adjusted[name] <= 1 for name, p in p_values.items())
    assert sorted(adjusted.values()) == [adjusted[name] for name, _ in sorted(p_values.items(), key=lambda one: one[1])]


def test_holm_multiplies_the_smallest_by_the_number_of_tests() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_a_difference_and_its_interval_are_repeatable() -> None:
    first = [0.1 * (at % 10) for at in range(50)]
    second = [0.1 * (at % 7) for at in range(50)]
    clusters = [str(at // 2) for at in range(50)]

    one = paired_difference(first, second, clusters, seed=3, confidence=0.95)

    assert one == paired_difference(first, second, clusters, seed=3, confidence=0.95)
    assert one.low < one.estimate < one.high
    assert one != paired_difference(first, second, clusters, seed=4, confidence=0.95)


def test_clusters_widen_the_interval() -> None:
    scores = [float(at // 5 % 2) for at in range(100)]

    independent = mean_interval(scores, [str(at) for at in range(100)], seed=1, confidence=0.95)
    clustered = mean_interval(scores, [str(at // 5) for at in range(100)], seed=1, confidence=0.95)

    assert clustered.high - clustered.low > 1.5 * (independent.high - independent.low)


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="paired scores"):
        paired_difference([1.0], [], ["a"], seed=1, confidence=0.9)
