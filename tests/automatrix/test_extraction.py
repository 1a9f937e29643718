"""What a model read out of a text stands only where the text says it; and a step that reads fields."""

import json
from typing import Any

import pytest

from auterity_dagster.automatrix.extraction import WantedField, read_answer, verified
from auterity_dagster.automatrix.outputs import ExtractOutput
from auterity_dagster.automatrix.publication import DefinitionInvalid
from auterity_dagster.errors import Invalid
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow
from tests.fakes.workflow_rows import the_only
from tests.fakes.workflow_world import Dealership, FakeChat, World, install_workflow, one_step

TEXT = "Hi, I could pay about $25,000 or 25k max.\nMy wife likes the  blue one; we trade in a 2018 Civic. Call me!"
WANTED = {
    "budget_usd": WantedField("integer", "what they can pay"),
    "year": WantedField("integer", "of the trade-in"),
    "color": WantedField("text", "the colour they want"),
    "contact": WantedField("choice", "how to reach them", ("call", "text")),
    "has_trade": WantedField("boolean", "whether they trade in"),
}


def one(name: str, value: Any, quote: Any) -> tuple[object, tuple[str, ...]]:
    found = verified({name: value}, {name: quote}, text=TEXT, wanted=WANTED)
    return found.fields[name], found.violations


@pytest.mark.parametrize(
    ("name", "value", "quote"),
    [
        ("budget_usd", 25000, "about $25,000"),
        ("budget_usd", 25000, "25k max"),
        ("year", 2018, "2018 Civic"),
        ("color", "blue", "likes the blue one"),
        ("color", "Blue One", "LIKES THE  BLUE\none"),
        ("contact", "call", "Call me"),
        ("has_trade", True, "we trade in"),
    ],
)
def test_a_value_that_its_quote_says_stands(name: str, value: Any, quote: str) -> None:
    assert one(name, value, quote) == (value, ())


@pytest.mark.parametrize(
    ("name", "value", "quote", "violation"),
    [
        ("budget_usd", 20000, "about $25,000", "not_in_quote: budget_usd"),
        ("budget_usd", 25000, "I have $25,000 in cash", "quote_not_in_text: budget_usd"),
        ("budget_usd", 25000, None, "quote_not_in_text: budget_usd"),
        ("budget_usd", "25000", "about $25,000", "wrong_type: budget_usd"),
        ("budget_usd", True, "about $25,000", "wrong_type: budget_usd"),
        ("year", 18, "2018 Civic", "not_in_quote: year"),
        ("color", "red", "likes the blue one", "not_in_quote: color"),
        ("color", "", "likes the blue one", "not_in_quote: color"),
        ("contact", "fax", "Call me", "wrong_type: contact"),
        ("has_trade", 1, "we trade in", "wrong_type: has_trade"),
        ("color", {"a": 1}, "blue", "wrong_type: color"),
        ("color", "blue", ["blue"], "quote_not_in_text: color"),
    ],
)
def test_a_value_that_the_text_does_not_say_becomes_null(name: str, value: Any, quote: Any, violation: str) -> None:
    assert one(name, value, quote) == (None, (violation,))


def test_a_span_is_the_place_in_the_text() -> None:
    found = verified({"color": "blue"}, {"color": "the blue one"}, text=TEXT, wanted=WANTED)

    span = found.quotes["color"]
    assert span is not None
    assert TEXT[span.start : span.end] == span.text == "the  blue one"
    assert found.fields["year"] is None
    assert found.quotes["year"] is None


def test_a_field_nobody_asked_for_is_dropped_and_told() -> None:
    found = verified({"ssn": "1"}, {"ssn": "Hi"}, text=TEXT, wanted=WANTED)

    assert "ssn" not in found.fields
    assert found.violations == ("unknown_field: ssn",)


@pytest.mark.parametrize("answer", ["", "no", "{", "[1]", '{"fields": {}}', '{"fields": [], "quotes": {}}', "{" * 5000])
def test_an_answer_of_another_form_is_refused(answer: str) -> None:
    with pytest.raises(Invalid):
        read_answer(answer)


STEP = {
    "id": "read",
    "kind": "extract",
    "with": {
        "text": "${{ event.data.comments }}",
        "fields": {
            "budget_usd": {"type": "integer", "about": "what they can pay"},
            "color": {"type": "text", "about": "the colour they want"},
        },
    },
}
GOOD = json.dumps(
    {"fields": {"budget_usd": 25000, "color": "red"}, "quotes": {"budget_usd": "25k max", "color": "blue one"}}
)


def test_the_step_reads_verifies_and_adds_its_repairs_up(world: World, dealership: Dealership) -> None:
    answers = iter(["I would rather talk.", f"Sure:\n{GOOD}"])
    world.chat = FakeChat(lambda _call: next(answers))
    install_workflow(dealership, one_step(STEP))
    dealership.lead(comments=TEXT)

    world.turn("custom_workflow")

    row = the_only(world, dealership, StepResultRow)
    output = ExtractOutput.model_validate(row.output)
    assert output.fields == {"budget_usd": 25000, "color": None}
    assert output.checks.violations == ("not_in_quote: color",)
    assert (row.prompt_tokens, row.cost_nusd) == (200, 2 * 12_345)
    assert [call.idempotency_key.partition(":")[2] for call in world.chat.calls] == ["read:1", "read:1:repair1"]
    assert "- budget_usd, integer: what they can pay\n" in world.chat.calls[0].user


def test_three_answers_of_another_form_fail_the_step(world: World, dealership: Dealership) -> None:
    world.chat = FakeChat(lambda _call: "no")
    install_workflow(dealership, one_step(STEP))
    dealership.lead()

    world.turn("custom_workflow")

    row = the_only(world, dealership, ExecutionRow)
    assert (row.state, row.error["code"], len(world.chat.calls)) == ("failed", "invalid_output", 3)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("${{ steps.before.output }}", "fields may come from the event or a variable, never from a step"),
        ({"a": {"type": "color", "about": "x"}}, "fields.a.type: Input should be 'text', 'integer'"),
        ({"a": {"type": "choice", "about": "x"}}, "fields.a: Value error, `choices` belong to the type `choice`"),
        ({}, "fields: Dictionary should have at least 1 item"),
    ],
)
def test_what_is_asked_for_is_fixed_at_publication(fields: Any, problem: str) -> None:
    before = {"id": "before", "kind": "vin_decode", "with": {"vin": "${{ event.data.vin }}"}}
    step = {**STEP, "with": {**STEP["with"], "fields": fields}}

    with pytest.raises(DefinitionInvalid) as caught:
        one_step(before, step)

    assert problem in caught.value.message
