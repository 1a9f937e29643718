"""A predictor chooses only if it is shown to be cheaper at no lower quality, on held-out prompts and in replay."""

import numpy as np
import pytest

from auterity_dagster.relaycore.predicted_choice import cheapest
from auterity_dagster.relaycore.predictor_gate import GateLimits, HeldOut, Outcome, Replayed, decide


def held_out(
    *, prompts: int = 600, cheaper: float = 0.4, worse: float = 0.0, error: float = 0.01, bad_task: float = 0.0
) -> HeldOut:
    random = np.random.default_rng(3)
    before = (random.random(prompts) < 0.9).astype(float)
    tasks = tuple("sales" if number % 4 else "care" for number in range(prompts))
    lost = np.array([worse + (bad_task if task == "care" else 0.0) for task in tasks])
    after = np.where(random.random(prompts) < lost, 0.0, before)
    costs = 1.0 + random.random(prompts)
    return HeldOut(tasks, before, costs, after, costs * (1 - cheaper), error)


def replayed(*, decisions: int = 10_000, good: float = 0.9, cost: float = 0.5) -> Replayed:
    """The logged policy takes the dear model 9 times of 10; the predictor would always take the cheap one."""
    random = np.random.default_rng(4)
    is_cheap = random.random(decisions) < 0.1
    return Replayed(
        propensities=np.where(is_cheap, 0.1, 0.9),
        is_same=is_cheap.astype(float),
        scores=(random.random(decisions) < np.where(is_cheap, good, 0.9)).astype(float),
        costs=np.where(is_cheap, cost, 1.0),
    )


NOTHING_LOGGED = Replayed(*(np.zeros(0) for _ in range(4)))


def decided(evidence: HeldOut, logged: Replayed | None = None) -> dict[str, Outcome]:
    found = decide(evidence, replayed() if logged is None else logged, GateLimits(margin=0.05), seed=0)
    return {one.gate: one.outcome for one in found.reasons} | {"all": found.outcome}


def test_cheaper_at_equal_quality_passes() -> None:
    assert set(decided(held_out()).values()) == {Outcome.PASS}


def test_without_logged_decisions_nothing_passes() -> None:
    found = decided(held_out(), NOTHING_LOGGED)

    assert (found["replay"], found["all"]) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("evidence", "gate", "outcome"),
    [
        (held_out(cheaper=0.0), "cheaper", Outcome.FAIL),
        (held_out(cheaper=-0.2), "cheaper", Outcome.FAIL),
        (held_out(worse=0.2), "quality", Outcome.FAIL),
        (held_out(bad_task=0.5), "tasks", Outcome.FAIL),
        (held_out(error=0.2), "calibration", Outcome.FAIL),
        (held_out(prompts=100), "prompts", Outcome.INCONCLUSIVE),
    ],
)
def test_each_question_can_keep_it_out(evidence: HeldOut, gate: str, outcome: Outcome) -> None:
    found = decided(evidence)

    assert found[gate] is outcome
    assert found["all"] is not Outcome.PASS


def test_replay_sees_that_the_rare_choice_is_worse() -> None:
    assert decided(held_out(), replayed(good=0.6))["replay"] is Outcome.FAIL


def test_replay_sees_that_the_rare_choice_is_dearer() -> None:
    assert decided(held_out(), replayed(cost=2.0))["replay"] is Outcome.FAIL


def test_the_cheapest_that_is_surely_good_enough_is_chosen() -> None:
    bounds, costs = np.array([0.5, 0.8, 0.9]), np.array([1.0, 2.0, 3.0])

    assert cheapest(bounds, costs, floor=0.7) == 1
    assert cheapest(bounds, costs, floor=0.4) == 0
    assert cheapest(bounds, costs, floor=0.95) == 2
