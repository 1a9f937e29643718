"""Recalls: read from a dated file, matched by VIN or model and year, and spoken of with care."""

from datetime import date

import pytest

from auterity_dagster.automatrix.outputs import RecallLookupOutput
from auterity_dagster.automatrix.recall import read_recalls, sentence, wording_violations
from auterity_dagster.errors import Conflict, Invalid
from auterity_dagster.storage.repositories import recalls
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow
from tests.fakes.workflow_rows import the_only
from tests.fakes.workflow_world import Dealership, World, install_workflow, one_step, run_async

HEADER = "NHTSACampaignNumber,Make,Model,ModelYear,VIN,Component,Summary,Consequence,Remedy,ReportReceivedDate\n"
CRV = "26V001,HONDA,CR-V,2026,,FUEL,Pump may fail.,Stall.,Dealers replace it.,05/11/2026\n"
OWN = "26V002,HONDA,CR-V,2026,2HKRS4H42TH719547,AIR BAGS,Inflator.,Injury.,Dealers replace it.,06/11/2026\n"
STEP = {
    "id": "recalls",
    "kind": "recall_lookup",
    "with": {
        "vin": "${{ event.data.vin }}", "make": "Honda", "vehicle_model": "crv", "year": "${{ event.data.year }}",
    },
}  # fmt: skip


def imported(dealership: Dealership, text: str, day: date = date(2026, 11, 20)) -> None:
    taken, bad = read_recalls(text)
    assert bad == ()
    run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: recalls.replace_all(session, taken, as_of=day),
    )


def looked_up(world: World, dealership: Dealership, *, vin: str | None, year: int) -> RecallLookupOutput:
    install_workflow(dealership, one_step(STEP))
    dealership.lead(vin=vin, year=year)
    world.turn("custom_workflow")
    return RecallLookupOutput.model_validate(the_only(world, dealership, StepResultRow).output)


@pytest.mark.parametrize(
    ("vin", "year", "match", "campaigns"),
    [
        ("2HKRS4H42TH719547", 2026, "vin", ["26V002"]),
        ("1HGCM82633A004352", 2026, "make_model_year", ["26V001"]),
        (None, 2026, "make_model_year", ["26V001"]),
        ("nonsense", 2025, "none", []),
    ],
)
def test_a_vin_counts_first_then_model_and_year(
    world: World, dealership: Dealership, vin: str | None, year: int, match: str, campaigns: list[str]
) -> None:
    imported(dealership, HEADER + CRV + OWN)

    found = looked_up(world, dealership, vin=vin, year=year)

    assert (found.match, [one.campaign for one in found.campaigns]) == (match, campaigns)
    assert (found.as_of, found.sentence) == ("2026-11-20", sentence(match))  # pyright: ignore[reportArgumentType]


def test_without_a_table_nothing_is_claimed(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(STEP))
    dealership.lead(vin=None, year=2026)

    world.turn("custom_workflow")

    row = the_only(world, dealership, ExecutionRow)
    assert (row.state, row.error["code"]) == ("failed", "invalid_input")


def test_a_newer_file_replaces_and_an_older_one_is_refused(world: World, dealership: Dealership) -> None:
    imported(dealership, HEADER + CRV + OWN)
    imported(dealership, HEADER + CRV.replace("26V001", "26V003"), date(2026, 11, 21))

    assert [one.campaign for one in looked_up(world, dealership, vin=None, year=2026).campaigns] == ["26V003"]
    with pytest.raises(Conflict, match="the table is of 2026-11-21"):
        imported(dealership, HEADER + CRV, date(2026, 11, 1))


def test_a_bad_row_costs_only_itself() -> None:
    text = (
        "\ufeff"
        + HEADER
        + CRV
        + "26V009,HONDA,CR-V,twenty,,,x,,y,\n,HONDA,CR-V,2026,,,x,,y,\n\n"
        + CRV.replace("05/11/2026", "31/31/2026")
    )

    taken, bad = read_recalls(text)

    assert [one.reported_on for one in taken] == [date(2026, 11, 5)]
    assert [(one.row, one.field) for one in bad] == [(2, "year"), (3, "campaign"), (5, "reported_on")]


@pytest.mark.parametrize("text", ["", "Make,Model\nHonda,CR-V\n", "campaign;make\n"])
def test_a_file_without_its_columns_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="the file has no column for"):
        read_recalls(text)


@pytest.mark.parametrize(
    ("text", "match", "code"),
    [
        ("Your CR-V has an open recall.", "make_model_year", "recall_claimed"),
        ("Your CR-V was recalled.", "none", "recall_claimed"),
        ("There is a recall.", "make_model_year", "recall_not_said_to_be_possible"),
        ("A recall may apply to your vehicle. It is dangerous!", "make_model_year", "recall_alarm"),
        ("URGENT: open recall for your VIN", "vin", "recall_alarm"),
    ],
)
def test_a_recall_is_not_claimed_without_a_vin_and_nobody_is_alarmed(text: str, match, code: str) -> None:
    assert any(one.startswith(code) for one in wording_violations(text, match=match))


@pytest.mark.parametrize("match", ["vin", "make_model_year", "none"])
def test_what_the_step_proposes_may_be_said(match) -> None:
    assert wording_violations(sentence(match), match=match) == ()


def test_a_text_about_something_else_is_left_alone() -> None:
    assert wording_violations("Immediately available: the CR-V!!", match="none") == ()
