"""When a learned predictor is asked, when it is believed, and that only its word about a known model counts."""

from dataclasses import replace
from typing import Literal

import pytest

from auterity_dagster.relaycore.predicted_quality import (
    ActivePredictor,
    PredictedQuality,
    PredictorMode,
    PublishedPredictor,
    QualityPrediction,
    chooser,
    expected_quality,
    to_ask,
)
from auterity_dagster.relaycore.prompt_features import shortened
from auterity_dagster.relaycore.prompt_reading import written_prompt
from auterity_dagster.relaycore.quality import Quality
from tests.fakes.handmade_predictor import BAD, GOOD, handmade_predictor

KNOWN = Quality(9, 3)
PREDICTION = QualityPrediction("p", True, True, {"a": PredictedQuality(0.8, 0.6)})


def published(alias: Literal["champion", "challenger"], *, passes: bool = False) -> PublishedPredictor:
    return PublishedPredictor(alias, alias, passes)


BOTH = [published("champion", passes=True), published("challenger")]


@pytest.mark.parametrize(
    ("mode", "named", "asked"),
    [
        ("off", [published("champion", passes=True)], {}),
        ("watch", [published("champion", passes=True)], {"champion": False}),
        ("watch", BOTH, {"challenger": False}),
        ("choose", [published("champion", passes=True)], {"champion": True}),
        ("choose", BOTH, {"champion": True, "challenger": False}),
        ("choose", [published("champion")], {"champion": False}),
        ("choose", [published("challenger", passes=True)], {"challenger": False}),
        ("choose", [], {}),
    ],
)  # fmt: skip
def test_only_a_champion_with_a_passing_verdict_may_choose(
    mode: PredictorMode, named: list[PublishedPredictor], asked: dict[str, bool]
) -> None:
    assert dict(to_ask(mode, named)) == asked


def test_a_champion_that_is_its_own_challenger_is_asked_once_and_may_choose() -> None:
    same = [
        replace(published("champion", passes=True), artefact_digest="x"),
        PublishedPredictor("challenger", "x", True),
    ]

    assert to_ask("choose", same) == (("x", True),)


@pytest.mark.parametrize(
    ("mode", "prediction"),
    [
        ("off", PREDICTION),
        ("watch", PREDICTION),
        ("choose", replace(PREDICTION, may_choose=False)),
        ("choose", replace(PREDICTION, is_in_domain=False)),
    ],
    ids=["off", "watch", "may not choose", "out of its domain"],
)
def test_a_predictor_that_is_not_to_be_believed_is_not(mode: PredictorMode, prediction: QualityPrediction) -> None:
    assert chooser(mode, [prediction]) is None
    assert chooser("choose", [prediction, PREDICTION]) is PREDICTION


def test_a_model_that_the_predictor_never_saw_is_known_by_the_posterior() -> None:
    seen, unseen = (expected_quality(KNOWN, digest, PREDICTION) for digest in ("a", "b"))

    assert (seen.mean, seen.lower_bound, seen.source) == (0.8, 0.6, "predictor")
    assert (unseen.mean, unseen.lower_bound, unseen.source) == (KNOWN.mean, KNOWN.lower_bound, "posterior")
    assert expected_quality(KNOWN, "a", None).source == "posterior"


def test_a_predictor_says_of_each_model_how_good_its_answer_will_be() -> None:
    predictor = handmade_predictor(["a", "b"], task="chat", weak=1, hard_word="integral")
    active = ActivePredictor("p", may_choose=True, predictor=predictor)

    easy, hard = active.predict("which colour", "chat"), active.predict("which integral", "chat")

    assert easy.models == {"a": PredictedQuality(*GOOD), "b": PredictedQuality(*GOOD)}
    assert hard.models == {"a": PredictedQuality(*GOOD), "b": PredictedQuality(*BAD)}
    assert not active.predict("which colour", "another task").is_in_domain


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi there"}]},
        {"system": "Be kind.", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi there"}]}]},
        {
            "system": [{"type": "text", "text": "Be kind."}],
            "messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Hi there"}]}],
        },
    ],
    ids=["openai", "anthropic", "with a picture"],
)
def test_a_prompt_reads_the_same_on_both_wires(body: dict[str, object]) -> None:
    assert written_prompt(body) == "Be kind.\n\nHi there"


def test_a_body_without_texts_is_an_empty_prompt() -> None:
    assert written_prompt({}) == written_prompt({"messages": [{"role": "assistant", "tool_calls": []}]}) == ""
    assert len(shortened("a" * 1_000_000)) < 5_000
