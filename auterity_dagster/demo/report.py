"""The demo's report: figures as JSON for programs, a page for people, a screenful for the terminal."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from rich.console import Console
from rich.table import Table

from auterity_dagster.demo.progress import in_minutes
from auterity_dagster.demo.results import DemoState, MoneyResult
from auterity_dagster.money import in_usd

STAGE_TITLES = {
    "services": "Start the services",
    "organization": "Create the organization",
    "specialise": "Specialise a model",
    "gateway": "Call the gateway",
    "leads": "Answer the leads",
    "reminders": "Remind of service",
    "money": "Check the money",
}


def write_report(state: DemoState, folder: Path) -> None:
    """Write `report.json` and `report.html` into `folder`; neither holds a credential."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = report_figures(state)
    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    environment = Environment(loader=PackageLoader("auterity_dagster.demo", "."), autoescape=True, trim_blocks=True)
    environment.filters["usd"] = in_usd
    environment.filters["minutes"] = in_minutes
    page = environment.get_template("report.html.j2").render(state=state, titles=STAGE_TITLES, figures=figures)
    (folder / "report.html").write_text(page)


def report_figures(state: DemoState) -> dict[str, Any]:
    """The figures as plain data, without the credentials that the state file holds."""
    figures = state.model_dump(mode="json", exclude={"organization"})
    if state.organization is not None:
        figures["organization"] = {
            "organization_id": str(state.organization.organization_id),
            "name": state.organization.name,
            "dealerships": [dealership.name for dealership in state.organization.dealerships],
        }
    if state.money is not None:
        figures["money"]["is_exact"] = state.money.is_exact
        figures["money"]["total_nusd"] = sum(spend.cost_nusd for spend in state.money.deployments)
        figures["money"]["comparison_nusd"] = sum(spend.comparison_nusd for spend in state.money.deployments)
    return figures


def print_summary(state: DemoState, console: Console, folder: Path) -> None:
    """Print one screen: what ran, what it gave, what it cost, where to look."""
    console.rule("Auterity demo")
    console.print(" · ".join(f"{STAGE_TITLES[stage]} {in_minutes(wall)}" for stage, wall in state.wall_s.items()))
    if state.specialisation is not None:
        _print_specialisation(state, console)
    if state.leads is not None:
        leads = state.leads
        console.print(
            f"[bold]Leads[/]: {leads.posted} documents, {leads.executions} executions: {leads.succeeded} answered "
            f"({leads.approved} approved by the manager), {leads.waiting} waiting, {leads.failed} failed; "
            f"{leads.duplicates} duplicate, {len(leads.quarantined)} in quarantine: "
            + ", ".join(f"{lead.file} ({lead.reason})" for lead in leads.quarantined)
        )
        console.print(
            f"Webhook to first step p50 {leads.webhook_to_first_step.p50_s:.1f} s, p95 "
            f"{leads.webhook_to_first_step.p95_s:.1f} s; to draft p50 {leads.webhook_to_draft.p50_s:.1f} s, "
            f"p95 {leads.webhook_to_draft.p95_s:.1f} s"
        )
    if state.reminders is not None:
        reminders = state.reminders
        console.print(
            f"[bold]Service reminders[/]: {reminders.customers} customers, {reminders.messages} messages, "
            f"{reminders.waiting} waiting, {reminders.failed} failed in {in_minutes(reminders.wall_s)}"
        )
    if state.money is not None:
        _print_money(state.money, console)
    for name, address in state.addresses.items():
        console.print(f"{name:<14} {address}", highlight=False)
    console.print(f"Report: {folder / 'report.html'}", highlight=False)


def _print_specialisation(state: DemoState, console: Console) -> None:
    specialisation = state.specialisation
    assert specialisation is not None
    served = "DPO" if specialisation.has_dpo else "served"
    table = Table("family", "items", "base", "SFT", served, "current route", "lift over base (95 %)", box=None)
    for row in specialisation.families:
        scores = (f"{score:.2f}" for score in (row.base, row.sft, row.dpo, row.champion))
        table.add_row(
            row.family, str(row.items), *scores, f"{row.lift:+.2f} ({row.lift_low:+.2f} to {row.lift_high:+.2f})"
        )
    console.print(table)
    console.print(f"Preference training: {specialisation.preference_effect}", highlight=False)
    console.print(f"[bold]Gate: {specialisation.verdict}[/] (rows and judge are synthetic)")
    for reason in specialisation.reasons:
        console.print(f"  {reason}", highlight=False)
    if specialisation.deployment_id is None:
        console.print("The specialised model was not deployed; calls go to the other deployments.")


def _print_money(money: MoneyResult, console: Console) -> None:
    table = Table("deployment", "requests", "prompt tokens", "completion tokens", "cost", box=None)
    for spend in money.deployments:
        table.add_row(
            spend.deployment,
            str(spend.requests),
            f"{spend.prompt_tokens:,}",
            f"{spend.completion_tokens:,}",
            f"${in_usd(spend.cost_nusd)}",
        )
    console.print(table)
    total = sum(spend.cost_nusd for spend in money.deployments)
    comparison = sum(spend.comparison_nusd for spend in money.deployments)
    console.print(
        f"Together ${in_usd(total)}; the same tokens on {money.most_expensive} would have cost ${in_usd(comparison)}"
    )
    verdict = "equal to the nano-dollar" if money.is_exact else "[bold red]NOT equal[/]"
    console.print(
        f"[bold]Ledger[/] ${in_usd(money.ledger_sandbox_nusd)}, the sandbox provider's own bill "
        f"${in_usd(money.sandbox_bill_nusd)}: {verdict}"
    )
