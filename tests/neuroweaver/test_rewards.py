import pytest

from auterity_dagster.neuroweaver.example import Family
from auterity_dagster.neuroweaver.rewards import Rewarded, RewardWatch, grounded, held_out, length, next_step

ASKED = """FACTS
- stock H26110: 2026 Honda CR-V EX, new, total price $31,995
- appointment times: Saturday 9:30 AM, Tuesday 2:00 PM

Is the CR-V still here, and can I see it?"""
GOOD = "Yes, the 2026 Honda CR-V EX, stock H26110, is here for $31,995. Would Saturday 9:30 AM suit you?"


def lead(answer: str) -> Rewarded:
    return Rewarded(Family.LEAD_REPLY, ASKED, answer)


def triage(answer: str) -> Rewarded:
    return Rewarded(Family.SERVICE_TRIAGE, "My brakes grind.", answer)


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        (GOOD, 1.0),
        ("Yes, it is here for $19,000. Would Saturday 9:30 AM suit you?", 0.5),
        ("Yes, stock H99999 is here for $19,000. Would Saturday 9:30 AM suit you?", 0.0),
    ],
)
def test_each_invention_costs_half_of_the_reward(answer: str, reward: float) -> None:
    assert grounded(lead(answer)) == reward


def test_an_offer_of_a_next_step_is_rewarded() -> None:
    assert next_step(lead(GOOD)) == 1
    assert next_step(lead("The CR-V is white.")) == 0


def test_triage_is_rewarded_for_the_asked_json_only() -> None:
    right = triage('{"urgency": "today", "department": "service"}')
    wrong = triage("Come in today.")

    assert (grounded(right), next_step(right), held_out(right)) == (1, 1, 1)
    assert (next_step(wrong), held_out(wrong)) == (0, 0)
    assert grounded(wrong) < 1


def test_length_pays_within_the_limit_and_nothing_beyond_twice_of_it() -> None:
    assert [length(lead("x" * count)) for count in (5, 100, 320, 480, 640, 900)] == [0, 1, 1, 0.5, 0, 0]


def test_the_held_out_judge_sees_repetition_that_the_rewards_do_not() -> None:
    gamed = lead("Yes, and would Saturday 9:30 AM suit you, " + "would Saturday 9:30 AM suit you, " * 7 + "please?")

    assert next_step(gamed) == grounded(gamed) == length(gamed) == 1
    assert held_out(gamed) < 0.3
    assert held_out(lead(GOOD)) == 1


def watched(trained: list[float], held: list[float], spreadless: float = 0.0) -> list[str | None]:
    watch = RewardWatch(window=3)
    return [
        watch.add(trained=one, held_out=other, spreadless=spreadless) for one, other in zip(trained, held, strict=True)
    ]


def test_rewards_that_rise_while_the_held_out_judge_falls_end_training() -> None:
    said = watched([0.5, 0.5, 0.5, 0.6, 0.6, 0.6], [0.9, 0.9, 0.9, 0.8, 0.8, 0.8])

    assert said[:5] == [None] * 5
    assert said[5] == "rewards rose by 0.10 while the held-out judge fell by 0.10: they are being gamed"


def test_rewards_that_rise_with_the_held_out_judge_go_on() -> None:
    assert watched([0.5] * 3 + [0.7] * 6, [0.8] * 3 + [0.9] * 6) == [None] * 9


def test_groups_without_spread_end_training() -> None:
    said = watched([0.5] * 3, [0.9] * 3, spreadless=0.9)

    assert said == [None, None, "90% of the groups have no spread: nothing is left to learn from"]
