"""What the demo writes and prints: the figures, in full, and never a credential or a pass that was not given."""

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from rich.console import Console

from auterity_dagster.demo.report import print_summary, write_report
from auterity_dagster.demo.results import (
    DealershipAccess,
    DemoState,
    DeploymentSpend,
    FamilyFigures,
    LeadsResult,
    LeadTimes,
    MoneyResult,
    OrganizationResult,
    QuarantinedLead,
    RemindersResult,
    SpecialisationResult,
    TrainingRun,
)

PASSWORD, API_KEY, HOOK_SECRET = "a-demo-password", "auty_live_a-demo-key", "whsec_a-demo-secret"


def organization() -> OrganizationResult:
    return OrganizationResult(
        organization_id=uuid4(),
        name="Demo <Auto> Group",
        owner_email="owner@auterity.example",
        manager_email="manager@auterity.example",
        password=PASSWORD,
        api_key=API_KEY,
        bill_before_nusd=0,
        dealerships=(
            DealershipAccess(
                dealership_id=uuid4(), name="Lakeside", hook_url="http://127.0.0.1/hooks", hook_secret=HOOK_SECRET
            ),
        ),
    )


def specialisation(verdict: str, deployment_id: str | None) -> SpecialisationResult:
    family = FamilyFigures(
        family="lead_reply", items=32, base=0.6, sft=0.9, dpo=0.91, champion=1.0, lift=0.31, lift_low=0.2, lift_high=0.4
    )
    return SpecialisationResult(
        run=TrainingRun(run_id="run", status="SUCCESS", step_seconds={"sft_adapter": 290.0}),
        recipe="smollm2_cpu_qlora",
        artefact_digest="d" * 64,
        verdict=verdict,
        reasons=("G1 FAIL: 2 of 64 answers are critical",),
        families=(family,),
        model_version=None,
        deployment_id=deployment_id,
        has_dpo=True,
        preference_effect="no measurable effect: preferred in 51% (45% to 57%) by judge-small, programs +0.010",
        mlflow_run_urls=(),
    )


def money(*, bill_nusd: int = 4_000) -> MoneyResult:
    return MoneyResult(
        deployments=(
            DeploymentSpend(
                deployment="sandbox-large",
                requests=2,
                prompt_tokens=500,
                completion_tokens=100,
                cost_nusd=4_000,
                comparison_nusd=4_000,
            ),
        ),
        most_expensive="sandbox-large",
        ledger_sandbox_nusd=4_000,
        sandbox_bill_nusd=bill_nusd,
        entries_sum_nusd=0,
        held_nusd=0,
        unknown_nusd=0,
    )


def whole_state(*, verdict: str = "PASS", deployment_id: str | None = "neuroweaver/o-1") -> DemoState:
    times = LeadTimes(count=18, p50_s=4.0, p95_s=6.5)
    return DemoState(
        is_quick=False,
        started_at=datetime(2026, 11, 24, tzinfo=UTC),
        wall_s={"services": 40.0, "leads": 30.0},
        addresses={"Dagster UI": "http://127.0.0.1:3000"},
        organization=organization(),
        specialisation=specialisation(verdict, deployment_id),
        leads=LeadsResult(
            posted=20,
            executions=18,
            succeeded=18,
            failed=0,
            waiting=0,
            approved=15,
            duplicates=1,
            quarantined=(QuarantinedLead(file="lead_18.xml", reason="not_well_formed", line=19),),
            messages=18,
            webhook_to_first_step=times,
            webhook_to_draft=times,
        ),
        reminders=RemindersResult(customers=200, succeeded=200, failed=0, waiting=0, messages=200, wall_s=80.0),
        money=money(),
    )


def printed(state: DemoState, folder: Path) -> str:
    output = StringIO()
    print_summary(state, Console(file=output, width=200), folder)
    return output.getvalue()


def test_the_report_holds_the_figures_of_every_stage(tmp_path: Path) -> None:
    write_report(whole_state(), tmp_path)

    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["specialisation"]["families"][0]["lift"] == 0.31
    assert figures["leads"]["webhook_to_draft"] == {"count": 18, "p50_s": 4.0, "p95_s": 6.5}
    assert figures["money"]["is_exact"] is True
    assert figures["money"]["total_nusd"] == 4_000
    assert figures["wall_s"] == {"services": 40.0, "leads": 30.0}


def test_what_is_served_is_not_called_dpo_where_preference_training_was_left_out(tmp_path: Path) -> None:
    trained = whole_state()
    told = {"has_dpo": False, "preference_effect": "left out: 12 pairs, 16 needed"}
    specialised = trained.specialisation
    assert specialised is not None
    state = trained.model_copy(update={"specialisation": specialised.model_copy(update=told)})
    write_report(state, tmp_path)

    shown = (printed(state, tmp_path), (tmp_path / "report.html").read_text())

    assert all("left out: 12 pairs, 16 needed" in one and "served" in one and "DPO" not in one for one in shown)
    assert "DPO" in printed(trained, tmp_path)


@pytest.mark.parametrize("secret", [PASSWORD, API_KEY, HOOK_SECRET])
def test_no_credential_is_in_the_report_or_on_the_screen(tmp_path: Path, secret: str) -> None:
    state = whole_state()
    write_report(state, tmp_path)

    shown = printed(state, tmp_path) + "".join(path.read_text() for path in tmp_path.iterdir())

    assert secret not in shown


def test_names_are_shown_as_text_and_never_as_markup(tmp_path: Path) -> None:
    write_report(whole_state(), tmp_path)

    page = (tmp_path / "report.html").read_text()

    assert "Demo &lt;Auto&gt; Group" in page
    assert "<Auto>" not in page


def test_a_model_that_did_not_pass_is_never_told_as_one(tmp_path: Path) -> None:
    state = whole_state(verdict="FAIL", deployment_id=None)
    write_report(state, tmp_path)

    shown = printed(state, tmp_path)

    assert "Gate: FAIL" in shown
    assert "was not deployed; calls go to the other deployments" in shown
    assert "G1 FAIL: 2 of 64 answers are critical" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("bill_nusd", [3_999, 4_001])
def test_one_nano_dollar_of_difference_is_not_exact(tmp_path: Path, bill_nusd: int) -> None:
    different = whole_state().model_copy(update={"money": money(bill_nusd=bill_nusd)})

    assert "NOT equal" in printed(different, tmp_path)
    assert money().is_exact
