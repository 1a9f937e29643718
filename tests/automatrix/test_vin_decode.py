"""What a VIN says, offline; a wrong one is marked and stops nothing."""

import pytest

from auterity_dagster.automatrix.outputs import VinDecodeOutput
from auterity_dagster.automatrix.vin_decoding import decode_vin
from auterity_dagster.storage.tables.workflows import StepResultRow
from tests.fakes.workflow_rows import the_only
from tests.fakes.workflow_world import Dealership, World, install_workflow, one_step


def test_a_clean_vin_is_decoded() -> None:
    found = decode_vin(" 1hgcm826-33a 004352", year=None)

    assert (found.vin, found.make, found.vehicle_model, found.year) == ("1HGCM82633A004352", "HONDA", "Accord", 2003)
    assert (found.trim, found.body, found.error_codes, found.is_check_digit_valid) == ("EX-V6", "Coupe", (0,), True)


def test_a_wrong_check_digit_warns_and_is_still_decoded() -> None:
    found = decode_vin("1HGCM82633A004353", year=None)

    assert (found.make, found.is_check_digit_valid) == ("HONDA", False)
    assert 1 in found.error_codes


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        ("1HGCM82633AOO4352", "1HGCM82633A004352"),
        ("IHGCM82633A004352", "1HGCM82633A004352"),
        ("12345", None),
        ("", None),
    ],
)
def test_what_cannot_be_a_vin_gives_nothing_but_a_suggestion(written: str, suggestion: str | None) -> None:
    found = decode_vin(written, year=None)

    assert (found.vin, found.make, found.is_check_digit_valid, found.suggestion) == (None, None, False, suggestion)
    assert found.error_codes != (0,)


def test_the_step_goes_on_without_a_vin(world: World, dealership: Dealership) -> None:
    step = {"id": "car", "kind": "vin_decode", "with": {"vin": "${{ event.data.vin }}"}}
    install_workflow(dealership, one_step(step))
    dealership.lead(vin=None)

    world.turn("custom_workflow")

    row = the_only(world, dealership, StepResultRow)
    assert row.state == "succeeded"
    assert VinDecodeOutput.model_validate(row.output).vin is None
