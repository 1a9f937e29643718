"""The predictor says what its training said, bit for bit as arrays, and knows where it knows nothing."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from auterity_dagster.relaycore.outcomes import Outcome, OutcomeTable, outcome_table
from auterity_dagster.relaycore.prompt_features import TRAITS, buckets_of, tokens_of, traits
from auterity_dagster.relaycore.routing_curve import pair_figures
from auterity_dagster.training.routing.fit import Learned, encoded_prompts, learn
from auterity_dagster.training.routing.trees import exported


@pytest.fixture(scope="module")
def table(outcomes: list[Outcome]) -> OutcomeTable:
    return outcome_table(outcomes)


@pytest.fixture(scope="module")
def learned(table: OutcomeTable) -> Learned:
    with threadpool_limits(1):
        return learn(table, encoded_prompts(table.prompts), seed=0)


def test_exported_trees_say_what_the_library_says() -> None:
    random = np.random.default_rng(2)
    rows = random.normal(size=(500, 6))
    forests = [
        HistGradientBoostingRegressor(max_iter=30, max_depth=4, random_state=0).fit(rows, rows[:, 0] * rows[:, column])
        for column in (1, 2)
    ]

    found = exported(forests).predict(rows[:100])

    assert found == pytest.approx(np.stack([forest.predict(rows[:100]) for forest in forests], axis=1), abs=1e-12)


def test_hard_prompts_are_told_from_easy_ones(table: OutcomeTable, learned: Learned) -> None:
    gains = table.scores[:, 1] - table.scores[:, 0]
    wanted = learned.out_of_fold[:, 1] - learned.out_of_fold[:, 0]

    assert pair_figures(gains, wanted).apgr > 0.65


def test_learning_again_gives_the_same_predictor(table: OutcomeTable, learned: Learned) -> None:
    with threadpool_limits(1):
        again = learn(table, encoded_prompts(table.prompts), seed=0)

    prompt = "please tell me about the theorem and the escrow clause"
    assert again.predictor.predict(prompt, "sales").scores.tolist() == (
        learned.predictor.predict(prompt, "sales").scores.tolist()
    )


def test_a_lower_bound_lies_below_its_probability(learned: Learned, table: OutcomeTable) -> None:
    for prompt, task in list(zip(table.prompts, table.tasks, strict=True))[:50]:
        said = learned.predictor.predict(prompt, task)
        assert (said.lower_bounds <= said.probabilities).all()
        assert (said.probabilities >= 0).all()
        assert (said.probabilities <= 1).all()


def test_what_was_never_seen_is_out_of_domain(learned: Learned, table: OutcomeTable) -> None:
    known = [
        learned.predictor.predict(prompt, task).is_in_domain
        for prompt, task in list(zip(table.prompts, table.tasks, strict=True))[:100]
    ]
    foreign = learned.predictor.predict("Как приготовить борщ? Напиши подробный рецепт.", "sales")

    assert sum(known) >= 95
    assert not foreign.is_in_domain
    assert not learned.predictor.predict(table.prompts[0], "a task of its own").is_in_domain
    assert not learned.predictor.predict(table.prompts[0], None).is_in_domain


def test_cells_that_nobody_measured_do_not_stop_learning(outcomes: list[Outcome]) -> None:
    some = [one for number, one in enumerate(outcomes) if number % 5]
    gappy = outcome_table(some)

    with threadpool_limits(1):
        predictor = learn(gappy, encoded_prompts(gappy.prompts), seed=0).predictor

    assert np.isnan(gappy.scores).any()
    assert np.isfinite(predictor.predict(gappy.prompts[0], "sales").scores).all()


@pytest.mark.parametrize("prompt", ["", " ", "#", "…", "1", "a" * 100_000, "\x00\ud83d", "🙂" * 50])
def test_any_text_has_features(prompt: str, learned: Learned) -> None:
    tokens = tokens_of(prompt)

    assert len(traits(prompt, tokens, characters=len(prompt))) == len(TRAITS)
    assert all(count > 0 for count in buckets_of(tokens).values())
    assert np.isfinite(learned.predictor.predict(prompt, "sales").scores).all()
