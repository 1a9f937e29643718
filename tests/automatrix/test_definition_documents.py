"""Definitions as documents: what changed between two, and YAML that reads back as what was written."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.automatrix.definition_diff import diff
from auterity_dagster.automatrix.document import read_document, write_yaml
from tests.fakes.workflow_world import templates

LEAD = dict(templates()["lead_response"].document)
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["NO", "on", "10:00", "1e3", "~", "${{ a }}", "- x", "#", "é\n"])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_yaml_reads_back_as_what_was_written(document: dict[str, Any]) -> None:
    assert read_document(write_yaml(document)) == document


@pytest.mark.parametrize("key", sorted(templates()))
def test_every_template_survives_the_round_trip(key: str) -> None:
    document = dict(templates()[key].document)

    assert read_document(write_yaml(document)) == document


def changed(change: Any) -> dict[str, Any]:
    document = deepcopy(LEAD)
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: None, []),
        (lambda d: d["steps"][1].update(timeout="PT9S"), [("changed", "steps.draft.timeout")]),
        (lambda d: d["steps"][1]["with"].update(model="small"), [("added", "steps.draft.with.model")]),
        (lambda d: d["steps"].pop(0), [("removed", "steps.stock")]),
        (lambda d: d["steps"].insert(0, {"id": "new"}), [("added", "steps.new")]),
        (lambda d: d["steps"].reverse(), [("moved", f"steps.{one['id']}") for one in reversed(LEAD["steps"])][:3]),
        (lambda d: d["variables"][0].update(default=True), [("changed", "variables.auto_send.default")]),
        (lambda d: d.update(timeout="P4D"), [("changed", "timeout")]),
    ],
)
def test_a_difference_names_the_step_by_its_id(change: Any, found: list[tuple[str, str]]) -> None:
    assert [(one.kind, one.path) for one in diff(LEAD, changed(change))][: len(found) or None] == found
