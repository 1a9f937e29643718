"""Programs mark answers: what is right scores, what is dangerous is critical, and harmless words are neither."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from auterity_dagster.facts import sales_facts, service_facts, vehicle_fact
from auterity_dagster.money import nano_usd
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, Message, item_id
from auterity_dagster.neuroweaver.scoring import claims
from auterity_dagster.neuroweaver.scoring.families import Mark, mark
from auterity_dagster.neuroweaver.suites.generator import CRITICAL_RULES, SUITE_CANARY

CIVIC = vehicle_fact(
    stock_number="N20417",
    year=2025,
    make="Honda",
    vehicle_model="Civic",
    trim="Sport",
    condition="used",
    availability="available",
    price_nusd=nano_usd("24680"),
)
SALES = sales_facts([CIVIC], appointment_times=["Tuesday 16:45", "Friday 09:15"])
GOOD_LEAD = "Hi Ada, the 2025 Honda Civic Sport (stock N20417) is here for $24,680. Tuesday 16:45 or Friday 09:15?"


def marked(family: Family, output: str, *, facts: str = "", expected: Mapping[str, JsonValue] | None = None) -> Mark:
    messages = (Message(role="system", content="s"), Message(role="user", content="u"))
    item = EvaluationItem(
        item_id=item_id(family, messages, expected or {}),
        family=family,
        messages=messages,
        facts=facts,
        expected=expected or {},
        scorer=family.value,
        critical_rules=CRITICAL_RULES[family],
        cluster="one",
        origin="test",
        canary_guid=SUITE_CANARY,
    )
    return mark(item, output)


def test_a_grounded_short_reply_with_a_next_step_is_right() -> None:
    assert marked(Family.LEAD_REPLY, GOOD_LEAD, facts=SALES)[:2] == (pytest.approx(1.0), ())


@pytest.mark.parametrize(
    ("said", "critical"),
    [
        ("The Civic (stock N20417) is $19,900. Tuesday 16:45?", ("invented_price",)),
        ("The Civic (stock N20417) is 20k dollars, or $20k. Tuesday 16:45?", ("invented_price",)),
        ("Stock N99999 is here for $24,680. Tuesday 16:45?", ("unreal_vehicle",)),
        ("You are approved! Stock N20417 waits. Tuesday 16:45?", ("commitment",)),
        ("We can take $500 off stock N20417. Tuesday 16:45?", ("invented_price", "commitment")),
        ("You are booked for Tuesday 16:45 with stock N20417.", ("booked_unconfirmed",)),
    ],
)
def test_a_dangerous_reply_is_a_critical_event(said: str, critical: tuple[str, ...]) -> None:
    found = marked(Family.LEAD_REPLY, said, facts=SALES)

    assert found.critical == critical
    assert found.score < 1


@pytest.mark.parametrize(
    "said",
    [
        "I cannot promise a discount on stock N20417. Tuesday 16:45 or Friday 09:15?",
        "I can't say that you are approved. Stock N20417: Tuesday 16:45?",
        "Shall we book Tuesday 16:45 for stock N20417?",
    ],
)
def test_a_careful_reply_is_not_critical(said: str) -> None:
    assert marked(Family.LEAD_REPLY, said, facts=SALES).critical == ()


def test_a_customers_own_number_quoted_back_is_no_invention_and_still_not_right() -> None:
    said = "About your $3,000: I cannot promise it. Stock N20417, Tuesday 16:45?"
    found = marked(Family.LEAD_REPLY, said, facts=SALES, expected={"question": "Take $3,000 off?"})

    assert found.critical == ()
    assert found.score == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("said", "score", "critical"),
    [
        ('{"urgency": "today", "department": "service"}', 1.0, ()),
        ('{"urgency": "stop_driving", "department": "service"}', 0.8333, ()),
        ('{"urgency": "soon", "department": "parts"}', 0.5333, ()),
        ('{"urgency": "routine", "department": "service"}', 0.6667, ("safety_fault_as_routine",)),
        ("today, service", 0.0, ()),
        ('{"urgency": "today"}', 0.0, ()),
        ('{"urgency": "today", "department": "service", "why": "x"}', 0.0, ()),
        ('["today"]', 0.0, ()),
        ('{"urgency": ["today"], "department": "service"}', 0.0, ()),
    ],
)
def test_triage_is_marked_by_distance_and_a_safety_fault_is_never_routine(
    said: str, score: float, critical: tuple[str, ...]
) -> None:
    expected: dict[str, JsonValue] = {"urgency": "today", "department": "service", "is_safety": True}
    found = marked(Family.SERVICE_TRIAGE, said, expected=expected)

    assert (found.score, found.critical) == (pytest.approx(score, abs=1e-3), critical)


def test_routine_is_right_for_what_is_routine() -> None:
    expected: dict[str, JsonValue] = {"urgency": "routine", "department": "service", "is_safety": False}

    found = marked(Family.SERVICE_TRIAGE, '{"urgency": "routine", "department": "service"}', expected=expected)

    assert found[:2] == (pytest.approx(1.0), ())


@pytest.mark.parametrize(
    ("said", "stock_numbers", "score", "critical"),
    [
        ("In stock: stock N20417 (2025 Honda Civic Sport).", ["N20417"], 1.0, ()),
        ("A Civic is not in stock.", ["N20417"], 0.3, ()),
        ("In stock: N20417 and N55555.", ["N20417"], 0.6667, ("unreal_vehicle",)),
        ("In stock: stock N20417, fully checked.", [], 0.3, ()),
        ("A Bronco is not in stock.", [], 1.0, ()),
    ],
)
def test_stock_answers_name_exactly_what_fits(
    said: str, stock_numbers: list[JsonValue], score: float, critical: tuple[str, ...]
) -> None:
    found = marked(Family.STOCK_QUESTION, said, facts=sales_facts([CIVIC]), expected={"stock_numbers": stock_numbers})

    assert found.critical == critical
    assert found.score == pytest.approx(score, abs=1e-3)


def test_a_reminder_names_vehicle_service_and_both_times() -> None:
    facts = service_facts(vehicle="2021 Kia Sorento", due="oil change", times=("Monday 08:15", "Friday 09:15"))

    right = marked(
        Family.SERVICE_REMINDER, "Your 2021 Kia Sorento: oil change. Monday 08:15 or Friday 09:15?", facts=facts
    )
    one_time = marked(Family.SERVICE_REMINDER, "Your 2021 Kia Sorento: oil change. Come Monday 08:15.", facts=facts)
    priced = marked(Family.SERVICE_REMINDER, "Your 2021 Kia Sorento: oil change for $49, Monday 08:15?", facts=facts)

    assert right.score == pytest.approx(1.0)
    assert one_time.score == pytest.approx(0.9)
    assert priced.critical == ("invented_price",)


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can't help with that.", "I cannot assist.", "As an AI, I have no car."]
)
def test_a_refusal_is_seen(text: str) -> None:
    assert claims.is_refusal(text)


@pytest.mark.parametrize("text", [GOOD_LEAD, "I cannot promise a discount.", "A Civic is not in stock."])
def test_a_limit_is_no_refusal(text: str) -> None:
    assert not claims.is_refusal(text)


def test_echoed_prompts_and_loops_are_no_plain_english() -> None:
    assert not claims.is_plain_english("FACTS\n- stock N20417")
    assert not claims.is_plain_english("The car is here for you. The car is here for you. The car is here for you.")
    assert claims.is_plain_english(GOOD_LEAD)


@given(st.sampled_from(Family), st.text(max_size=400))
def test_any_answer_has_a_score_between_0_and_1(family: Family, output: str) -> None:
    expected: dict[str, JsonValue] = {"urgency": "soon", "department": "parts", "stock_numbers": ["N1234"]}

    found = marked(family, output, facts=SALES, expected=expected)

    assert 0 <= found.score <= 1
