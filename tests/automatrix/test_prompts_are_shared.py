"""One prompt for three: what trains, what measures and what workflows send are filled templates of one file."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from auterity_dagster.neuroweaver.canaries import canary_items, canary_rows
from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.example import Message
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite
from auterity_dagster.neuroweaver.traces import trace_row
from auterity_dagster.prompt import PromptTemplate, load_prompts
from auterity_dagster.storage.repositories.traces import traces
from tests.automatrix.test_lead_response import decide, waiting
from tests.fakes.workflow_world import Dealership, World, install_workflow

PROMPTS = load_prompts(Path(__file__).parents[2] / "config" / "prompts")

# A changed text is another prompt and gets another number: models were trained on the old one.
TEXTS = {
    ("follow_up", 1): "86f4ff99340f",
    ("lead_reply", 1): "28e9736e952e",
    ("price_review", 1): "cbec1d7874c6",
    ("read_fields", 1): "5701f67220c8",
    ("recall_notice", 1): "32ea8b3b7b14",
    ("review_reply", 1): "464fd3acc63d",
    ("service_reminder", 1): "38b21100a4c1",
    ("service_triage", 1): "3b5b772014c7",
    ("stock_question", 1): "e0903b404aca",
    ("trade_in_request", 1): "35c91adff603",
    ("vehicle_description", 1): "56f509b8167d",
}


def is_filled(prompt: PromptTemplate, messages: tuple[Message, ...]) -> bool:
    """Whether the first two messages are this template with its placeholders filled in."""
    texts = (prompt.system, prompt.user)
    return all(
        re.fullmatch(re.sub(r"\\\{\\\{\w+\\\}\\\}", "(?s:.*)", re.escape(text)), message.content)
        for text, message in zip(texts, messages, strict=False)
    )


Uses = Mapping[str, list[tuple[str, tuple[Message, ...]]]]


def strangers(prompts: Mapping[str, PromptTemplate], found: Uses) -> set[str]:
    """Return which uses do not come from these prompts."""
    return {use for use, texts in found.items() for task, messages in texts if not is_filled(prompts[task], messages)}


@pytest.fixture
def uses(world: World, dealership: Dealership) -> Uses:
    install_workflow(dealership, "lead_response")
    dealership.lead()
    world.turn()
    rows = generate(PROMPTS, seed=3, conversations=80, customers=30).rows
    items = evaluation_suite(PROMPTS, seed=3, items_per_family=30).items
    served = [
        (call.task or "", (Message(role="system", content=call.system), Message(role="user", content=call.user)))
        for call in world.chat.calls
    ]
    return {
        "trained": [(row.family.value, row.messages) for row in (*rows, *canary_rows(PROMPTS, seed=3, count=3))],
        "measured": [(item.family.value, item.messages) for item in (*items, *canary_items(PROMPTS, seed=3, count=3))],
        "served": served,
    }


def test_training_evaluation_and_serving_use_the_same_prompts(uses: Uses) -> None:
    assert all(uses.values())
    assert strangers(PROMPTS, uses) == set()


def test_a_prompt_that_was_changed_in_one_place_is_seen_in_all_three(uses: Uses) -> None:
    changed = {
        key: prompt.model_copy(update={"system": f"{prompt.system} Be brief."}) for key, prompt in PROMPTS.items()
    }

    assert strangers(changed, uses) == {"trained", "measured", "served"}


def test_a_changed_text_has_another_number() -> None:
    found = {
        (prompt.key, prompt.number): hashlib.sha256(f"{prompt.system}\n{prompt.user}".encode()).hexdigest()[:12]
        for prompt in PROMPTS.values()
    }

    assert found == TEXTS


def test_what_people_let_go_out_becomes_a_row_under_the_same_prompt_and_what_they_rejected_does_not(
    world: World, dealership: Dealership
) -> None:
    install_workflow(dealership, "lead_response")
    better = {"reply": "Hi Marisol, it is here. Saturday at 10:00?"}
    outcomes: list[tuple[Literal["approved", "rejected"], dict[str, str]]] = [
        ("approved", {}),
        ("approved", better),
        ("rejected", {}),
    ]
    for number, (outcome, edited) in enumerate(outcomes):
        dealership.lead(number)
        world.turn()
        [approval] = waiting(dealership)
        decide(dealership, approval.id, outcome, edited=edited)
        world.turn()
        # Rows come in the order of their leads, and two leads of one instant have none.
        world.clock.advance(60)

    with world.database.begin(dealership.organization_id) as session:
        found = list(traces(session, dealership_id=dealership.dealership_id))
    rows = [row for trace in found if (row := trace_row(trace, PROMPTS)) is not None]

    assert [(row.source, row.label) for row in rows] == [("gateway_trace", "accepted"), ("approval_edit", "edited")]
    assert rows[1].messages[-1]["content"] == better["reply"]
    asked = {(call.system, call.user) for call in world.chat.calls}
    assert {(row.messages[0]["content"], row.messages[1]["content"]) for row in rows} <= asked
    assert all(row.names for row in rows)
