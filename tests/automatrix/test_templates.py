"""What every shipped template keeps to: it explains itself, no message leaves unguarded, and its page is current."""

from collections.abc import Iterator, Mapping
from random import Random
from uuid import UUID

import pytest

from auterity_dagster.automatrix.compiled_workflow import CompiledStep, CompiledWorkflow
from auterity_dagster.automatrix.publication import check_prompts, compile_document
from auterity_dagster.automatrix.scope import sample_of
from auterity_dagster.automatrix.template_reference import read_sample_lines, template_reference
from auterity_dagster.automatrix.workflow import SENDING, StepKind
from tests.fakes.workflow_world import CEL, CONFIG, shipped_prompts, templates

FOLDER = CONFIG / "workflows"
KEYS = (
    "csi_follow_up", "finance_document_checklist", "follow_up_cadence", "inventory_price_review", "lead_qualification",
    "lead_response", "merchandising_description", "missed_call_text_back", "open_recall_outreach", "review_response",
    "service_reminder", "trade_in_appraisal", "warranty_claim_triage",
)  # fmt: skip


def unguarded(template: CompiledWorkflow) -> list[str]:
    """Return the messages that could leave though nobody approved them and `auto_send` does not let them.

    A message is guarded by an approval that its condition depends on; where the approval may be skipped, what decides
    about that reads `auto_send`.
    """
    every = {one.step.id: one for one in template.every()}
    return [one.step.id for one in every.values() if one.step.kind in SENDING and not _is_guarded(every, one)]


def _is_guarded(every: Mapping[str, CompiledStep], send: CompiledStep) -> bool:
    chain = tuple(_conditions(every, send))
    may_be_skipped = any("skipped" in (one.step.when or "") for one in chain)
    asked = [one for one in chain if one.step.kind is StepKind.APPROVAL]
    let_go = [one for approval in asked for one in _conditions(every, approval) if "auto_send" in _variables(one)]
    return bool(asked) and (bool(let_go) or not may_be_skipped)


def _conditions(every: Mapping[str, CompiledStep], step: CompiledStep) -> Iterator[CompiledStep]:
    """The step, and every step that its condition depends on, back to the first."""
    seen: set[str] = set()
    left = [step]
    while left:
        one = left.pop()
        if one.step.id not in seen:
            seen.add(one.step.id)
            yield one
            left += [every[name] for name in (one.when.step_ids if one.when is not None else ())]


def _variables(step: CompiledStep) -> frozenset[str]:
    own = step.when.variable_names if step.when is not None else frozenset[str]()
    return own.union(*(case.when.variable_names for case in step.cases))


def test_thirteen_ship() -> None:
    assert tuple(templates()) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_a_template_explains_itself_and_asks_only_prompts_that_ship(key: str) -> None:
    definition = templates()[key].definition

    check_prompts(templates()[key], shipped_prompts())
    assert definition.description
    assert [one.name for one in definition.variables if not one.description] == []
    assert len(read_sample_lines(FOLDER, key)) >= 10


@pytest.mark.parametrize("key", KEYS)
def test_no_message_leaves_that_nobody_approved_or_let_go(key: str) -> None:
    assert unguarded(templates()[key]) == []


def test_a_message_whose_approval_was_taken_out_is_found() -> None:
    document = dict(templates()["missed_call_text_back"].document)
    [text] = [dict(one) for one in document["steps"] if one["id"] == "text"]
    del text["when"]
    steps = [text if one["id"] == "text" else one for one in document["steps"]]

    assert unguarded(compile_document({**document, "steps": steps}, CEL)) == ["text", "promise"]


def test_a_sample_is_a_fair_share_and_an_execution_stays_in_it() -> None:
    chance = Random(7)
    ids = [UUID(int=chance.getrandbits(128), version=4) for _ in range(4000)]

    drawn = [one for one in ids if sample_of(one) < 0.1]

    assert 300 < len(drawn) < 500
    assert drawn == [one for one in ids if sample_of(one) < 0.1]
    assert all(0 <= sample_of(one) < 1 for one in ids)


def test_the_page_of_templates_is_the_one_that_their_files_make() -> None:
    page = template_reference(templates(), {key: read_sample_lines(FOLDER, key) for key in KEYS})

    assert (CONFIG.parent / "docs" / "reference" / "templates.md").read_text() == page, (
        "python -m auterity_dagster.automatrix.template_reference config/workflows > docs/reference/templates.md"
    )
