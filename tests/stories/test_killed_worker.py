"""A run worker that is killed with SIGKILL in the middle loses nothing and doubles nothing.

Real Dagster instance, real run processes, real PostgreSQL; journal and messenger record are compared afterwards.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from auterity_dagster.storage.database import BlockingDatabase
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.workflow_world import Dealership, install_workflow, new_dealership
from tests.stories.killable_location import KILL_AT, LEDGER, MESSENGER, ROOT

LEADS = 6
STEPS = 7
SIGKILLED = -9
NEVER = "never:0"


@dataclass
class Stage:
    """One installation with leads waiting, and the processes that work on them."""

    urls: DatabaseUrls
    dealership: Dealership
    folder: Path

    def run_worker(self, *, kill_at: str, ledger: str = "yes", messenger: str = "sandbox") -> int:
        """One run of the job in its own process; returns how it ended."""
        home = self.folder / "dagster"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        environment = {
            **os.environ, "DAGSTER_HOME": str(home), "AUTERITY_DATABASE_URL": self.urls.application,
            "AUTERITY_DATA_DIR": str(self.folder), KILL_AT: kill_at, LEDGER: ledger, MESSENGER: messenger,
        }  # fmt: skip
        command = [
            sys.executable, "-m", "dagster", "job", "execute",
            "-m", "tests.stories.killable_location", "-a", "workflows", "-j", "lead_response",
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        assert ended.returncode in (0, SIGKILLED), ended.stderr[-2000:]
        return ended.returncode

    def let_leases_lapse(self) -> None:
        """What time does: the dead worker's executions become ready again."""
        with psycopg.connect(self.urls.owner) as connection:
            connection.execute("UPDATE execution SET ready_at = now() WHERE state = 'running'")

    def messages(self) -> list[str]:
        """The keys in the messenger's own record, in order."""
        record = self.folder / "messenger" / "sent.jsonl"
        return [json.loads(line)["key"] for line in record.read_text().splitlines()] if record.exists() else []

    def query(self, statement: LiteralString) -> list[tuple]:
        with psycopg.connect(self.urls.owner) as connection:
            return connection.execute(statement).fetchall()


def faults(stage: Stage) -> list[str]:
    """Compare journal, ledger of effects and the messenger's record; say everything that was lost or doubled.

    A message that may have been sent, and that a person is asked about, is neither.
    """
    sent = Counter(stage.messages())
    effects = dict(stage.query("SELECT key, state FROM side_effect"))
    asked = {f"{one}:first-reply" for (one,) in stage.query("SELECT execution_id FROM task WHERE state = 'open'")}
    expected = {f"{one}:first-reply": state for one, state in stage.query("SELECT id, state FROM execution")}
    unclear = {key for key, state in effects.items() if state == "unknown"} & asked
    found = [f"message {key} was sent {count} times" for key, count in sent.items() if count > 1]
    found += [f"message {key} was lost" for key in sorted(set(expected) - set(sent) - unclear)]
    found += [f"message {key} belongs to nobody" for key in sorted(set(sent) - set(expected))]
    for key, state in expected.items():
        if (state, effects.get(key)) not in [("succeeded", "confirmed")] and key not in unclear:
            found.append(f"{key}: the execution {state}, its effect is {effects.get(key)}")
    done = Counter(
        (execution, path)
        for execution, path in stage.query(
            "SELECT execution_id, path FROM step_result WHERE state IN ('succeeded', 'skipped')"
        )
    )
    found += [f"step {path} of {one} was done {count} times" for (one, path), count in done.items() if count != 1]
    whole = STEPS * (len(expected) - len(unclear))
    return found + ([f"{whole - len(done)} steps are missing"] if len(done) < whole else [])


@pytest.fixture
def stage(database_urls: DatabaseUrls, blocking_database: BlockingDatabase, tmp_path: Path) -> Stage:
    now = datetime.now(UTC)
    dealership = new_dealership(database_urls, blocking_database, FakeClock(now))
    install_workflow(dealership, "lead_response", {"auto_send": True})
    for number in range(LEADS):
        dealership.lead(number)
    return Stage(database_urls, dealership, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_killed_workers_lose_nothing_and_double_nothing(stage: Stage) -> None:
    points = ["after_claim:1", "before_answer:3", "after_answer:2", "after_intend:2", "after_send:2", "before_finish:3"]

    ends = []
    for point in points:
        ends.append(stage.run_worker(kill_at=point))
        stage.let_leases_lapse()
    last = stage.run_worker(kill_at=NEVER)

    assert (ends, last) == ([SIGKILLED] * len(points), 0)
    assert faults(stage) == []


@pytest.mark.slow
def test_a_messenger_that_repeats_is_asked_what_it_did_and_never_called_again(stage: Stage) -> None:
    killed = stage.run_worker(kill_at="after_send:2", messenger="forgetful")
    stage.let_leases_lapse()
    stage.run_worker(kill_at=NEVER, messenger="forgetful")

    assert killed == SIGKILLED
    assert faults(stage) == []


@pytest.mark.chaos
@pytest.mark.control
def test_without_the_ledger_of_effects_the_checker_finds_doubled_messages(stage: Stage) -> None:
    stage.run_worker(kill_at="after_send:2", ledger="no", messenger="forgetful")
    stage.let_leases_lapse()
    stage.run_worker(kill_at=NEVER, ledger="no", messenger="forgetful")

    assert any("was sent 2 times" in fault for fault in faults(stage))
