"""The walk through docs/workflows.md, run as it stands there beside a real `auterity up`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from auterity_dagster.embedded import background
from auterity_dagster.embedded.announcement import Announcement

PAGE = Path(__file__).parents[2] / "docs" / "workflows.md"
RUNS_END_WITHIN_S = 180
STEPS = ["stock", "draft", "review", "sms"]
RUNS = """{ runsOrError(filter: {pipelineName: "custom_workflow"}) { ... on Runs { results {
  status stepStats { stepKey status } } } } }"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def script(running: Announcement) -> str:
    """Everything that the page's walk tells to type, with the address that this `up` has."""
    walk = PAGE.read_text().partition("\n## Walk through it\n")[2]
    typed = "".join(re.findall(r"```bash\n(.*?)```", walk, flags=re.DOTALL))
    assert "http://127.0.0.1:8401" in typed
    return typed.replace("http://127.0.0.1:8401", running.urls.api)


def runs_when_over(running: Announcement) -> list[dict[str, Any]]:
    """The runs of the job, once none works: each waits a little for more before it ends."""
    deadline = time.monotonic() + RUNS_END_WITHIN_S
    while True:
        answer = httpx.post(f"{running.urls.dagster}/graphql", json={"query": RUNS}, timeout=60).json()
        runs = answer["data"]["runsOrError"]["results"]
        if all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs):
            return runs
        assert time.monotonic() < deadline, runs
        time.sleep(0.5)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as after installation: with `.venv`, and with `var` over which everything runs."""
    for name in [name for name in os.environ if name.startswith("AUTERITY_")]:
        monkeypatch.delenv(name)
    project = Path(tempfile.mkdtemp(prefix="auterity-walk-"))
    project.chmod(0o711)
    (project / ".venv").symlink_to(sys.prefix)
    yield project
    background.stop(project / "var")
    shutil.rmtree(project)


def test_a_person_writes_a_file_publishes_it_posts_a_lead_approves_and_sees_every_step(folder: Path) -> None:
    running = background.start(["--free-ports"], data_dir=folder / "var")

    walked = subprocess.run(
        ["bash", "-c", script(running)], cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "AUTERITY_DATA_DIR": str(folder / "var")},
    )  # fmt: skip

    assert walked.returncode == 0, walked.stderr[-3000:]
    execution = json.loads((folder / "execution.json").read_text())
    assert [(one["path"], one["state"]) for one in execution["steps"]] == [(one, "succeeded") for one in STEPS]
    (message,) = (folder / "var" / "messenger" / "sent.jsonl").read_text().splitlines()
    assert "+13125550141" in message
    heard = (folder / "live.txt").read_text()
    assert [one for one in STEPS if f'"path": "{one}", "state": "succeeded"' not in heard] == []
    runs = runs_when_over(running)
    # A run may have been launched that finds nothing more to do.
    done = [run for run in runs if run["status"] == "SUCCESS"]
    assert "FAILURE" not in {run["status"] for run in runs}
    assert {step["stepKey"] for run in done for step in run["stepStats"]} == {
        "claim",
        "advance_all",
        "finish",
        "carry_on",
    }
