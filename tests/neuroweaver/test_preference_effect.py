"""What preference training changed: a judge that is pleased while programs find the answers worse was gamed."""

from collections.abc import Callable, Sequence
from uuid import UUID

import pytest

from auterity_dagster.neuroweaver.example import EvaluationItem, Family, ItemResult
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.judging import compare
from auterity_dagster.neuroweaver.preference_effect import PreferenceEffect, before_and_after, effect_of
from tests.neuroweaver.test_judging import GOOD, PROMPT, RUBRIC, ScriptedJudge

ITEMS = 40
FLATTERY = " You made an excellent choice, and we are delighted to hear from you."


def items() -> list[EvaluationItem]:
    return [
        EvaluationItem(
            item_id=digest(number),
            family=Family.LEAD_REPLY,
            messages=PROMPT,
            facts="",
            expected={},
            scorer="lead_reply",
            critical_rules=(),
            cluster=f"c{number}",
            origin="test",
            canary_guid=UUID(int=1),
        )
        for number in range(ITEMS)
    ]


def results(answers: Sequence[str], scores: Sequence[float]) -> list[ItemResult]:
    return [
        ItemResult(
            item_id=digest(number),
            artefact_digest="a",
            output=answer,
            stop_reason="stop",
            completion_tokens=1,
            latency_ms=1.0,
            score=score,
        )
        for number, (answer, score) in enumerate(zip(answers, scores, strict=True))
    ]


def measured(
    after: Sequence[str], *, scores: Sequence[float], winner: Callable[[str], str]
) -> tuple[PreferenceEffect, ScriptedJudge]:
    judge = ScriptedJudge(winner)
    before = results([GOOD] * ITEMS, [0.9] * ITEMS)
    answered = before_and_after(items(), before=before, after=results(after, scores))
    asked = [one for one in answered if one.needs_judge]
    judged = {one.item.item_id: compare(one.comparison, judge=judge, rubric=RUBRIC) for one in asked}
    return effect_of(answered, judged, seed=1), judge


def flattered(shown: str) -> str:
    """A judge who likes to be flattered."""
    return "A" if FLATTERY in shown.partition("ANSWER B")[0] else "B"


def longer(shown: str) -> str:
    """A judge whose choice is a matter of length."""
    first, _, second = shown.partition("ANSWER A\n")[2].partition("\n\nANSWER B\n")
    return "A" if len(first) > len(second) else "B"


@pytest.mark.parametrize(
    ("score", "reading"), [(0.6, "reward hacking"), (0.9, "better"), (1.0, "better")], ids=["worse", "equal", "better"]
)
def test_a_pleased_judge_is_believed_unless_programs_score_lower(score: float, reading: str) -> None:
    found, _ = measured([GOOD + FLATTERY] * ITEMS, scores=[score] * ITEMS, winner=flattered)

    assert (found.wins, found.losses) == (ITEMS, 0)
    assert found.reading == reading
    assert found.told.startswith(f"{reading}: preferred in 100%")
    assert "scripted" in found.told


def test_a_judge_that_dislikes_it_or_programs_that_do_say_worse() -> None:
    disliked, _ = measured(
        [GOOD + FLATTERY] * ITEMS, scores=[0.9] * ITEMS, winner=lambda shown: "B" if flattered(shown) == "A" else "A"
    )
    fallen, _ = measured([GOOD + FLATTERY] * ITEMS, scores=[0.5] * ITEMS, winner=lambda _: "tie")

    assert disliked.reading == "worse"
    assert fallen.reading == "worse"


def test_an_interval_across_a_half_is_no_measurable_effect() -> None:
    found, _ = measured([GOOD + FLATTERY] * ITEMS, scores=[0.9] * ITEMS, winner=lambda _: "tie")

    assert found.ties == ITEMS
    assert found.reading == "no measurable effect"


def test_equal_answers_are_ties_and_silence_loses_and_no_judge_is_asked() -> None:
    after = [GOOD.replace(" ", "  ")] * 20 + [""] * 20

    found, judge = measured(after, scores=[0.9] * ITEMS, winner=lambda _: "A")

    assert judge.asked == []
    assert (found.wins, found.ties, found.losses) == (0, 20, 20)
    assert found.judges == ("programs",)


def test_longer_and_shorter_answers_weigh_equally_in_the_rate_of_length() -> None:
    after = [GOOD + FLATTERY] * 30 + [GOOD.replace("Hi Ana, the", "The")] * 10

    found, _ = measured(after, scores=[0.9] * ITEMS, winner=longer)

    assert found.win_rate.estimate == pytest.approx(30 / ITEMS)
    assert found.win_rate_of_length == pytest.approx(0.5)
