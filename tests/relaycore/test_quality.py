"""The lower bound of quality: what is surely true of a model, given how often it was looked at."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from scipy.stats import beta as scipy_beta

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore import quality
from auterity_dagster.relaycore.quality import Quality, QualityEvidence, beta_quantile, require_score

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def posterior(found: list[QualityEvidence]) -> Quality:
    return quality.posterior(found, now=NOW)


def evidence(items: float, mean_score: float, *, source: str = "evaluation", age_days: float = 0) -> QualityEvidence:
    recorded_at = NOW - timedelta(days=age_days)
    return QualityEvidence(uuid4(), "lead_reply", "digest", source, items, mean_score, recorded_at)


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


@pytest.mark.parametrize(("source", "weight"), [("workflow_outcome", 1.0), ("judge", 0.5), ("thumb", 0.3)])
def test_a_source_counts_what_it_is_worth(source: str, weight: float) -> None:
    assert posterior([evidence(10, 1.0, source=source)]) == Quality(1 + 10 * weight, 1)


def test_labels_count_half_after_fourteen_days_and_evaluation_does_not_age() -> None:
    labels, evaluated = evidence(10, 1.0, source="workflow_outcome", age_days=14), evidence(10, 1.0, age_days=14)

    assert posterior([labels]) == Quality(1 + 5, 1)
    assert posterior([evaluated]) == Quality(1 + 10, 1)


def test_labels_move_a_posterior_that_evaluation_alone_cannot_move_any_more() -> None:
    evaluated = evidence(5_000, 0.9)

    after = posterior([evaluated, evidence(200, 0.2, source="workflow_outcome")])

    assert after.mean < 0.4 < posterior([evaluated]).mean


def test_two_looks_within_an_hour_agree_to_the_bit() -> None:
    found = [evidence(7, 0.6, source="thumb", age_days=3)]

    assert quality.posterior(found, now=NOW) == quality.posterior(found, now=NOW + timedelta(minutes=59))


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan")])
def test_a_score_outside_zero_to_one_is_no_label(score: float) -> None:
    with pytest.raises(Invalid):
        require_score(score)
