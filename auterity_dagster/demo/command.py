"""`auterity demo`: the main job end to end, stage by stage, going on where an interrupted one stopped."""

import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import openai
from rich.console import Console

from auterity_dagster.demo.gateway_calls import call_gateway
from auterity_dagster.demo.leads import answer_leads
from auterity_dagster.demo.money_check import check_money
from auterity_dagster.demo.organization import create_demo_organization
from auterity_dagster.demo.progress import Progress, in_minutes
from auterity_dagster.demo.reminders import remind_customers
from auterity_dagster.demo.report import STAGE_TITLES, print_summary, write_report
from auterity_dagster.demo.results import DemoState
from auterity_dagster.demo.running_services import addresses, running_services
from auterity_dagster.demo.specialise import specialise_model
from auterity_dagster.demo.stage import DemoContext, Stage, StageFailed
from auterity_dagster.embedded import background
from auterity_dagster.embedded.announcement import Announcement
from auterity_dagster.errors import AuterityError

SERVICES_TYPICAL_S = 60.0


def stages(*, is_quick: bool) -> tuple[Stage, ...]:
    """The stages in order, with how long each took on two CPU cores."""
    return (
        Stage(
            key="organization",
            typical_s=5,
            log_process="api",
            run=create_demo_organization,
            is_done=lambda state: state.organization is not None,
        ),
        Stage(
            key="specialise",
            typical_s=240 if is_quick else 900,
            log_process="models",
            run=specialise_model,
            is_done=lambda state: state.specialisation is not None,
        ),
        Stage(
            key="gateway",
            typical_s=10,
            log_process="gateway",
            run=call_gateway,
            is_done=lambda state: state.gateway is not None,
        ),
        Stage(
            key="leads",
            typical_s=40,
            log_process="workflows",
            run=answer_leads,
            is_done=lambda state: state.leads is not None,
        ),
        Stage(
            key="reminders",
            typical_s=120,
            log_process="workflows",
            run=remind_customers,
            is_done=lambda state: state.reminders is not None,
        ),
        Stage(
            key="money",
            typical_s=1,
            log_process="gateway",
            run=check_money,
            is_done=lambda state: state.money is not None,
        ),
    )


def run_demo(*, data_dir: Path, is_quick: bool, stop_afterwards: bool, console: Console) -> None:
    """Run what is not done yet, write the report and print the summary.

    Raises `StageFailed` with the log to read when a stage cannot finish; the next start goes on with that stage.
    """
    folder = data_dir / "demo"
    state = state_to_go_on_from(folder / "state.json", is_quick=is_quick, console=console)
    plan = stages(is_quick=is_quick)
    began = time.monotonic()
    with Progress(
        console, f"[1/{len(plan) + 1}]", STAGE_TITLES["services"], SERVICES_TYPICAL_S, _later(plan, state, 0)
    ):
        announcement = running_services(data_dir, console)
    try:
        state.wall_s["services"] = round(time.monotonic() - began, 1)
        state.addresses = addresses(announcement)
        state.save(folder / "state.json")
        for index, stage in enumerate(plan):
            if not stage.is_done(state):
                later_s = _later(plan, state, index + 1)
                _run(stage, f"[{index + 2}/{len(plan) + 1}]", later_s, announcement, state, console)
                state.save(folder / "state.json")
        state.finished_at = datetime.now(UTC)
        state.save(folder / "state.json")
        write_report(state, folder)
        print_summary(state, console, folder)
    finally:
        if stop_afterwards:
            background.stop(data_dir)
    if not stop_afterwards:
        console.print("Everything still runs; `.venv/bin/auterity down` stops it.", highlight=False)


def state_to_go_on_from(path: Path, *, is_quick: bool, console: Console) -> DemoState:
    """Return an interrupted demo's state, or a clean one after a finished, unreadable or differently sized one."""
    state = DemoState.load(path)
    if state is not None and state.finished_at is None and state.is_quick == is_quick:
        done = ", ".join(STAGE_TITLES[key] for key in state.wall_s if key != "services")
        console.print(f"Going on with the interrupted demo; done already: {done or 'nothing'}", highlight=False)
        return state
    if path.exists():
        console.print("Starting clean with a new organization; the earlier demo's stays as it is", highlight=False)
    return DemoState(is_quick=is_quick, started_at=datetime.now(UTC))


def _run(
    stage: Stage, position: str, later_s: float, announcement: Announcement, state: DemoState, console: Console
) -> None:
    log = announcement.data_dir / "log" / f"{stage.log_process}.log"
    with Progress(console, position, STAGE_TITLES[stage.key], stage.typical_s, later_s) as progress:
        try:
            stage.run(DemoContext(announcement=announcement, state=state, progress=progress))
        except StageFailed:
            raise
        except (AuterityError, httpx.HTTPError, openai.OpenAIError) as error:
            raise StageFailed(f"The stage '{STAGE_TITLES[stage.key]}' failed: {error}", log=log) from error
        state.wall_s[stage.key] = round(progress.elapsed_s, 1)
    done = f"{position} {STAGE_TITLES[stage.key]}: done in {in_minutes(state.wall_s[stage.key])}"
    console.print(done, highlight=False, markup=False)


def _later(plan: tuple[Stage, ...], state: DemoState, first: int) -> float:
    return sum(stage.typical_s for stage in plan[first:] if not stage.is_done(state))
