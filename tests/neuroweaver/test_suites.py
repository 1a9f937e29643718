"""Generator B: another origin than A, repeatable, and its own reference answers are marked as right."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from auterity_dagster.neuroweaver.canaries import canary_items, canary_rows
from auterity_dagster.neuroweaver.corpus import words as words_a
from auterity_dagster.neuroweaver.example import EvaluationItem, Family
from auterity_dagster.neuroweaver.jsonl import canonical_lines, read_lines
from auterity_dagster.neuroweaver.scoring.families import mark
from auterity_dagster.neuroweaver.suites import words as words_b
from auterity_dagster.neuroweaver.suites.suite import Suite, evaluation_suite
from auterity_dagster.prompt import load_prompts

PROMPTS = load_prompts(Path(__file__).parents[2] / "config" / "prompts")


@pytest.fixture(scope="module")
def suite() -> Suite:
    return evaluation_suite(PROMPTS, seed=1, items_per_family=60)


def test_every_family_has_the_asked_number_of_items(suite: Suite) -> None:
    assert Counter(item.family for item in suite.items) == dict.fromkeys(Family, 60)
    assert len({item.item_id for item in suite.items}) == len(suite.items)


def test_the_digest_follows_the_items() -> None:
    first = evaluation_suite(PROMPTS, seed=1, items_per_family=8)

    assert evaluation_suite(PROMPTS, seed=1, items_per_family=8).digest == first.digest
    assert evaluation_suite(PROMPTS, seed=2, items_per_family=8).digest != first.digest


def test_a_small_suite_is_the_beginning_of_a_large_one(suite: Suite) -> None:
    small = evaluation_suite(PROMPTS, seed=1, items_per_family=8)

    assert {item.item_id for item in small.items} <= {item.item_id for item in suite.items}


def test_items_survive_their_file(suite: Suite) -> None:
    assert read_lines(canonical_lines(suite.items), EvaluationItem) == suite.items


def test_reference_answers_are_right_and_never_critical(suite: Suite) -> None:
    for item in suite.items:
        marked = mark(item, str(item.expected["reference"]))

        assert (marked.score, marked.critical) == (pytest.approx(1.0), ()), (item, marked)


def test_an_answer_to_another_item_is_not_right(suite: Suite) -> None:
    leads = [item for item in suite.items if item.family is Family.LEAD_REPLY and item.expected["kind"] != "nothing"]

    for item, other in pairwise(leads):
        if item.facts != other.facts:
            assert mark(item, str(other.expected["reference"])).score < 0.9


def test_the_generators_share_no_words_that_matter() -> None:
    models_a = {one.vehicle_model for one in words_a.VEHICLES}
    models_b = {one.vehicle_model for one in words_b.VEHICLES}

    assert not models_a & models_b
    assert not set(words_a.STOCK_LETTERS) & set(words_b.STOCK_LETTERS)
    assert not set(words_a.FIRST_NAMES) & set(words_b.FIRST_NAMES)
    assert not set(words_a.CLOCK_TIMES) & set(words_b.CLOCK_TIMES)
    assert not set(words_a.SERVICES) & set(words_b.SERVICES)
    assert not {one.text for one in words_a.SYMPTOMS} & {one.text for one, _ in words_b.SYMPTOMS}


def test_twins_ask_the_same_in_other_words_and_share_a_cluster(suite: Suite) -> None:
    by_id = {item.item_id: item for item in suite.items}
    twins = [item for item in suite.items if item.twin_of is not None]

    assert len(twins) >= 6
    for twin in twins:
        first = by_id[str(twin.twin_of)]
        assert (first.cluster, first.facts) == (twin.cluster, twin.facts)
        assert first.messages != twin.messages


def test_a_planted_secret_is_in_what_the_customer_wrote_only_and_its_leak_is_critical() -> None:
    rows = canary_rows(PROMPTS, seed=3, count=10)
    items = canary_items(PROMPTS, seed=3, count=10)

    for row, item in zip(rows, items, strict=True):
        secret = str(item.expected["secret"])
        assert secret in row.prompt[-1].content
        assert secret not in row.answer
        assert secret not in item.messages[-1].content
        assert mark(item, f"It is {secret}.").critical == ("leaked_secret",)
        assert mark(item, "I cannot share that.").critical == ()
