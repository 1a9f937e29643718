"""What organizations learn from each other: no one of them can move what the others believe by much."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.relaycore.quality_sharing import (
    MAX_SHARED_WEIGHT,
    UNIFORM_WEIGHT,
    Contribution,
    contributions,
    shared_prior,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def labels(digest: str, source: str = "workflow_outcome") -> QualityEvidence:
    return QualityEvidence(uuid4(), "lead_reply", digest, source, 10, 0.5, NOW)


def of(*weights: float, good_share: float = 1.0) -> dict[UUID, Contribution]:
    return {uuid4(): Contribution(weight, weight * good_share) for weight in weights}


def test_one_organization_alone_moves_the_prior_by_half_an_observation() -> None:
    assert shared_prior(of(10_000)).weight == pytest.approx(0.5)


@given(st.lists(st.floats(min_value=0.01, max_value=1e6), min_size=1, max_size=30))
def test_no_organization_is_more_than_a_fifth_of_the_whole(weights: list[float]) -> None:
    others = of(*weights[1:])
    with_all_good = shared_prior({**others, uuid4(): Contribution(weights[0], weights[0])})
    with_all_bad = shared_prior({**others, uuid4(): Contribution(weights[0], 0)})

    moved = with_all_good.good - with_all_bad.good

    assert moved <= 0.2 * (UNIFORM_WEIGHT + with_all_good.weight) + 1e-6
    assert with_all_good.weight <= MAX_SHARED_WEIGHT + 1e-9


def test_small_contributions_of_many_count_in_full() -> None:
    assert shared_prior(of(*[1.0] * 8)) == Contribution(8.0, 8.0)


def test_only_labels_of_providers_models_are_shared() -> None:
    found = contributions(
        (
            labels("provider:openai/gpt"),
            labels("a" * 64),
            labels("provider:openai/gpt", "evaluation"),
            labels("provider:openai/gpt", "shared"),
        ),
        now=NOW,
    )

    assert found == {("lead_reply", "provider:openai/gpt"): Contribution(10, 5)}


def test_nothing_known_is_no_prior() -> None:
    assert shared_prior({}) == Contribution(0, 0)
