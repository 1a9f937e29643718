"""Generator A: repeatable, varied, labelled synthetic, and every reply states facts of its own prompt only."""

import json
from collections import Counter
from pathlib import Path

import pytest

from auterity_dagster.neuroweaver.corpus.generator import Corpus, generate
from auterity_dagster.neuroweaver.example import Family, TrainingExample
from auterity_dagster.neuroweaver.jsonl import canonical_lines, compressed, read_lines
from auterity_dagster.prompt import load_prompts

PROMPTS = load_prompts(Path(__file__).parents[2] / "config" / "prompts")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate(PROMPTS, seed=42, conversations=1200, customers=400)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_rows() -> None:
    first = generate(PROMPTS, seed=7, conversations=40, customers=20)
    again = generate(PROMPTS, seed=7, conversations=40, customers=20)
    other = generate(PROMPTS, seed=8, conversations=40, customers=20)

    assert compressed(canonical_lines(first.rows)) == compressed(canonical_lines(again.rows))
    assert not {row.example_id for row in first.rows} & {row.example_id for row in other.rows}


def test_rows_survive_their_file(corpus: Corpus) -> None:
    assert read_lines(canonical_lines(corpus.rows), TrainingExample) == corpus.rows


def test_no_template_writes_more_than_two_percent_of_the_rows(corpus: Corpus) -> None:
    assert corpus.largest_template_share <= 0.02


def test_every_family_has_its_quarter(corpus: Corpus) -> None:
    assert Counter(row.family for row in corpus.rows) == dict.fromkeys(Family, 300)


def test_every_row_says_that_it_is_synthetic(corpus: Corpus) -> None:
    for row in corpus.rows:
        assert (row.source, row.consent_id, row.organization_id) == ("synthetic", "synthetic", None)
        assert row.generator is not None


def test_triage_answers_are_json_and_safety_faults_are_never_routine(corpus: Corpus) -> None:
    for row in corpus.rows:
        if row.family is Family.SERVICE_TRIAGE:
            answer = json.loads(row.answer)
            is_safety = any(
                word in row.prompt[-1].content for word in ("brake", "steering", "airbag", "fuel", "gasoline")
            )
            assert not (is_safety and answer["urgency"] == "routine")


def test_replies_are_short(corpus: Corpus) -> None:
    assert max(len(row.answer) for row in corpus.rows) <= 320


def test_a_few_rows_carry_contact_details_for_the_scrubber(corpus: Corpus) -> None:
    with_details = [row for row in corpus.rows if "555-01" in row.prompt[-1].content or "@" in row.prompt[-1].content]

    assert 0.005 < len(with_details) / len(corpus.rows) < 0.05
