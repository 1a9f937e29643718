"""Processes of a run: started on cores of their own where there are two, measured from /proc, ended by their pid."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import psutil

ROOT = Path(__file__).parents[2]


class Machine:
    """The gateway under test has the first core; load generator, provider and databases share the others."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.is_pinned = len(cores) > 1
        self.gateway_cores = set(cores[:1])
        self.other_cores = set(cores[1:]) or set(cores)

    def pin(self, pid: int, *, is_gateway: bool) -> None:
        """Move a process, its threads and those of its children."""
        if not self.is_pinned:
            return
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            for thread in process.threads():
                os.sched_setaffinity(thread.id, self.gateway_cores if is_gateway else self.other_cores)


def start(
    stack: ExitStack,
    command: Sequence[str],
    *,
    machine: Machine,
    is_gateway: bool,
    environment: Mapping[str, str] = {},
    log: Path,
) -> int:
    """Start a command that ends with the stack; return its pid."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=os.environ | environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    stack.callback(_end, process)
    machine.pin(process.pid, is_gateway=is_gateway)
    return process.pid


def uvicorn(app: str, port: int) -> list[str]:
    """The command of one uvicorn worker, as every Python gateway here gets it: uvloop, httptools, no access log."""
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), *options]


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes and their children have used, to the nanosecond where the kernel says it."""
    total_ns = 0
    for pid in _with_children(pids):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of these processes and their children."""
    return sum(psutil.Process(pid).memory_info().rss for pid in _with_children(pids)) / 1e6


async def healthy(url: str, *, within_s: float = 120, statuses: tuple[int, ...] = (200,)) -> None:
    """Wait until the address answers. Raises `TimeoutError`."""
    async with asyncio.timeout(within_s), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(url) as response:
                    if response.status in statuses:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def _with_children(pids: Iterable[int]) -> list[int]:
    found = list(pids)
    for pid in list(found):
        found += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in family:
        if child.is_running():
            child.kill()
