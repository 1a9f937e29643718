"""An interrupted demo goes on where it stopped, a finished one starts clean, and both say so."""

import stat
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from rich.console import Console

from auterity_dagster.demo.command import state_to_go_on_from
from auterity_dagster.demo.inventory import service_customers
from auterity_dagster.demo.leads import sample_documents
from auterity_dagster.demo.results import DemoState, RemindersResult
from auterity_dagster.demo.stage import StageFailed

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)
REMINDED = RemindersResult(customers=200, succeeded=200, failed=0, waiting=0, messages=200, wall_s=80.0)


def go_on(path: Path, *, is_quick: bool = False) -> tuple[DemoState, str]:
    output = StringIO()
    state = state_to_go_on_from(path, is_quick=is_quick, console=Console(file=output, width=200))
    return state, output.getvalue()


def saved(path: Path, *, finished_at: datetime | None = None) -> None:
    DemoState(
        is_quick=False,
        started_at=BEGAN,
        finished_at=finished_at,
        wall_s={"services": 40.0, "reminders": 80.0},
        reminders=REMINDED,
    ).save(path)


def test_an_interrupted_demo_goes_on_and_says_what_is_done(tmp_path: Path) -> None:
    saved(tmp_path / "state.json")

    state, told = go_on(tmp_path / "state.json")

    assert state.reminders == REMINDED
    assert "Going on with the interrupted demo; done already: Remind of service" in told


def test_a_finished_demo_starts_clean_and_says_so(tmp_path: Path) -> None:
    saved(tmp_path / "state.json", finished_at=BEGAN)

    state, told = go_on(tmp_path / "state.json")

    assert state.reminders is None
    assert "Starting clean" in told


def test_a_demo_of_the_other_size_starts_clean(tmp_path: Path) -> None:
    saved(tmp_path / "state.json")

    state, told = go_on(tmp_path / "state.json", is_quick=True)

    assert (state.is_quick, state.reminders) == (True, None)
    assert "Starting clean" in told


def test_a_state_file_that_cannot_be_read_starts_clean(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"is_quick": fal')

    state, told = go_on(tmp_path / "state.json")

    assert state.reminders is None
    assert "Starting clean" in told


def test_the_state_file_is_its_owners_alone(tmp_path: Path) -> None:
    saved(tmp_path / "state.json")

    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_a_failed_stage_names_its_log(tmp_path: Path) -> None:
    failed = StageFailed("it broke", log=tmp_path / "log" / "models.log")

    assert str(tmp_path / "log" / "models.log") in failed.message


def test_the_demo_posts_the_twenty_documents_byte_for_byte() -> None:
    documents = sample_documents()

    assert len(documents) == 20
    assert documents["lead_04.xml"].startswith(b"\xef\xbb\xbf")


def test_the_invented_customers_have_numbers_of_their_own() -> None:
    customers = service_customers(200)

    assert len({customer.phone for customer in customers}) == 200
    assert service_customers(200) == customers
