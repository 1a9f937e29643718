"""What counts as drift: enough rows on both sides, an index past the limit, twice in a row; and what is compared."""

import pytest

from auterity_dagster.facts import parse_facts
from auterity_dagster.neuroweaver.dataset_features import feed_schema, language
from auterity_dagster.neuroweaver.drift import Drift, drifted_twice, numbers_in


def drift(*, rows: int = 500, reference_rows: int = 500, **psi: float) -> Drift:
    return Drift(rows=rows, reference_rows=reference_rows, psi=psi)


def test_a_column_past_the_limit_has_drifted() -> None:
    assert drift(words=0.21, turns=0.2).drifted == ("words",)


@pytest.mark.parametrize(("rows", "reference_rows"), [(499, 500), (500, 499)])
def test_too_few_rows_say_nothing(rows: int, reference_rows: int) -> None:
    found = drift(rows=rows, reference_rows=reference_rows, words=4.0)

    assert (found.is_conclusive, found.drifted) == (False, ())


def test_one_odd_window_is_no_reason_to_train_again() -> None:
    assert drifted_twice(drift(words=0.5), None) == ()
    assert drifted_twice(drift(words=0.5), drift(words=0.1)) == ()
    assert drifted_twice(drift(words=0.5, turns=0.5), drift(words=0.3)) == ("words",)


def test_numbers_are_told_from_categories() -> None:
    assert numbers_in({"words": [1.0, 2.0], "family": ["a", "b"], "empty": []}) == ("words", "empty")


@pytest.mark.parametrize(
    ("text", "found"),
    [("Is the blue one here?", "en"), ("¿Está el azul para el sábado?", "es"), ("CR-V 2026", "other")],
)
def test_a_language_is_read_from_its_small_words(text: str, found: str) -> None:
    assert language(text) == found


def test_a_feed_is_told_by_the_kinds_of_its_facts() -> None:
    facts = parse_facts("FACTS\n- stock H1: 2026 Ford Escape, new, available\n- hours: Mon-Sat\nCUSTOMER")

    assert feed_schema(facts) == "hours+stock"
    assert feed_schema(parse_facts("hello")) == "none"
