"""A really running `auterity up` whose processes are killed at random moments; its supervisor restarts them."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from auterity_dagster.embedded.announcement import read_announcement
from auterity_dagster.embedded.data_folder import DataFolder, owner
from auterity_dagster.embedded.processes import find

RUN_WORKER = "run_worker"
POSTGRES = "postgres"
ROUND: Sequence[str] = (
    RUN_WORKER, "workflows", RUN_WORKER, "api", "dagster_daemon", RUN_WORKER, POSTGRES, RUN_WORKER,
)  # fmt: skip
"""Eight kills, in an order that the seed shuffles."""


@dataclass
class Killer:
    """Kills with SIGKILL; `killed` counts what was hit."""

    data_dir: Path
    random: Random
    gap_s: tuple[float, float]
    killed: Counter[str] = field(default_factory=Counter[str])
    _plan: list[str] = field(default_factory=list[str])

    async def kill_until(self, over: asyncio.Event, *, at_least: int) -> None:
        """Kill one after the other until the work is over and enough were killed."""
        while not over.is_set() or self.killed.total() < at_least:
            await asyncio.sleep(self.random.uniform(*self.gap_s))
            assert owner(DataFolder(self.data_dir)) is not None, "`auterity up` itself ended: see log/up.log"
            if not self._plan:
                self._plan = self.random.sample(ROUND, len(ROUND))
            target = self._plan.pop()
            pid = self._pid(target)
            # No run works at the moment, or the service is being restarted: its turn comes again.
            if pid is None:
                self._plan.insert(0, target)
                continue
            os.kill(pid, signal.SIGKILL)
            self.killed[target] += 1

    def _pid(self, target: str) -> int | None:
        if target == RUN_WORKER:
            workers = run_workers(self.data_dir)
            return self.random.choice(workers).pid if workers else None
        running = read_announcement(self.data_dir)
        named = [] if running is None else [one for one in running.processes if one.name == target]
        found = find(named[0]) if named else None
        return None if found is None else found.pid


def run_workers(data_dir: Path) -> list[psutil.Process]:
    """The processes that carry runs: Dagster's code server spawns them, and they outlive it."""
    running = read_announcement(data_dir)
    if running is None:
        return []
    return [one for one in psutil.Process(running.pid).children(recursive=True) if _is_worker(one)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
        # A process of the same kind that only keeps track of shared memory belongs to each.
        return "multiprocessing.spawn" in command and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
