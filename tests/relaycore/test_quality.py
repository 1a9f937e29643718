"""The lower bound of quality: what is surely true of a model, given how often it was looked at."""

from uuid import uuid4

import pytest
from scipy.stats import beta as scipy_beta

from auterity_dagster.relaycore.quality import Quality, QualityEvidence, beta_quantile, posterior


def evidence(items: int, mean_score: float) -> QualityEvidence:
    return QualityEvidence(uuid4(), "lead_reply", "digest", "evaluation", items, mean_score)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.7, 51.0, 900.0])
@pytest.mark.parametrize("beta", [0.5, 1.0, 8.2, 51.0, 900.0])
@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95])
def test_quantiles_agree_with_an_independent_library(probability: float, alpha: float, beta: float) -> None:
    assert beta_quantile(probability, alpha, beta) == pytest.approx(scipy_beta.ppf(probability, alpha, beta), abs=1e-7)


def test_nothing_known_gives_a_lower_bound_of_five_percent() -> None:
    assert posterior([]).lower_bound == pytest.approx(0.05)


def test_more_items_of_the_same_score_raise_the_lower_bound() -> None:
    assert posterior([evidence(10, 0.9)]).lower_bound < posterior([evidence(40, 0.9)]).lower_bound


def test_evaluation_counts_for_at_most_fifty_items() -> None:
    assert posterior([evidence(50, 0.9)]) == posterior([evidence(5_000, 0.9)])


def test_a_perfect_score_is_not_certainty() -> None:
    assert posterior([evidence(5, 1.0)]).lower_bound < 0.7


def test_sources_are_weighted_by_their_items() -> None:
    both = posterior([evidence(10, 1.0), evidence(30, 0.0)])

    assert both == Quality(1 + 40 * 0.25, 1 + 40 * 0.75)
