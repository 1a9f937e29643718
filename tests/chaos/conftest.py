"""The report of a chaos run: one JSON line a promise, from what its tests noted and how they ended.

A test says which promise it proves with `@pytest.mark.promise("P-1")`, or that it is a negative control of it with
`@pytest.mark.promise("P-1", control=True)`; what it notes in the fixture `noted` stands in the line.
"""

import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.ledger_processes import SEED

NOTED = pytest.StashKey[dict[str, int]]()
STARTED = pytest.StashKey[float]()


@dataclass(slots=True)
class PromiseReport:
    """What came of one promise's tests."""

    numbers: dict[str, int] = field(default_factory=dict)
    n: int = 0
    seconds: float = 0.0
    proofs: list[bool] = field(default_factory=list)
    controls: list[bool] = field(default_factory=list)

    def line(self, promise: str, *, commit: str) -> str:
        """The line as `promises.md` asks for it. A promise without a proof or without a control is not shown."""
        verdict = "not shown" if not self.proofs else "held" if all(self.proofs) else "broken"
        control = "none" if not self.controls else "detected" if all(self.controls) else "missed"
        document = {"promise": promise, "size": "chaos", "seed": str(SEED), "n": self.n, "verdict": verdict}
        document |= {"numbers": self.numbers, "control": control, "commit": commit, "seconds": round(self.seconds)}
        return json.dumps(document)


REPORTS = pytest.StashKey[dict[str, PromiseReport]]()


@pytest.fixture
def noted(request: pytest.FixtureRequest) -> dict[str, int]:
    """Numbers for the report: `n`, the size of the run, is added up; any other is kept as it is."""
    return request.node.stash.setdefault(NOTED, {})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]):
    report = yield
    mark = item.get_closest_marker("promise")
    if mark is None or (call.when != "call" and report.passed):
        return report
    reports = item.config.stash.setdefault(REPORTS, {})
    entry = reports.setdefault(mark.args[0], PromiseReport())
    (entry.controls if mark.kwargs.get("control") else entry.proofs).append(report.passed)
    numbers = dict(item.stash.get(NOTED, {}))
    entry.n += numbers.pop("n", 0)
    entry.numbers |= numbers
    entry.seconds += time.time() - item.stash.get(STARTED, call.start)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[STARTED] = time.time()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not str(config.getoption("markexpr")).startswith("chaos"):
        return
    root = Path(__file__).parents[2]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    for promise, report in sorted(config.stash.get(REPORTS, {}).items(), key=lambda one: int(one[0][2:])):
        terminalreporter.write_line(report.line(promise, commit=commit.stdout.strip() or "unknown"))
