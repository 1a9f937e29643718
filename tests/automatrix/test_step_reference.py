"""Every step kind has its inputs, outputs and a section of the reference; what runs give is what they say."""

from auterity_dagster.automatrix.inputs import INPUTS
from auterity_dagster.automatrix.outputs import OUTPUTS
from auterity_dagster.automatrix.step_reference import step_reference
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.storage.tables.workflows import StepResultRow
from tests.fakes.workflow_rows import rows_of
from tests.fakes.workflow_world import CONFIG, Dealership, World, install_workflow

PAGE = CONFIG.parent / "docs" / "reference" / "steps.md"


def test_the_committed_reference_is_the_one_the_models_make() -> None:
    assert PAGE.read_text() == step_reference(), (
        "python -m auterity_dagster.automatrix.step_reference > docs/reference/steps.md"
    )


def test_every_kind_has_inputs_outputs_and_a_section() -> None:
    assert set(INPUTS) == set(OUTPUTS) == set(StepKind)
    assert [line for line in step_reference().splitlines() if line.startswith("## ")] == [
        f"## `{kind}`" for kind in INPUTS
    ]


def test_what_a_run_gives_is_what_the_models_say(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, "lead_response", {"auto_send": True})
    dealership.lead()

    world.turn()

    done = [row for row in rows_of(world, dealership, StepResultRow) if row.state == "succeeded"]
    assert {row.kind for row in done} == {"inventory_search", "ai_prompt", "decide", "send_sms"}
    for row in done:
        OUTPUTS[StepKind(row.kind)].model_validate(row.output)
