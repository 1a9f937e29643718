"""Start and end operating-system processes so that none is left: groups, adopted orphans, leftovers of a dead `up`."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import psutil

from auterity_dagster.embedded.supervised_service import Service, ServiceProcess
from auterity_dagster.embedded.unprivileged import ownership
from auterity_dagster.errors import Unavailable

MARK = "AUTERITY_UP"
"""Environment variable that every process of one `up` inherits: whoever carries its value belongs to it."""

PR_SET_CHILD_SUBREAPER = 36
LOG_LIMIT_BYTES = 20_000_000
POLL_EVERY_S = 0.1
"""Looking whether a child ended costs microseconds, and unlike waiting in a thread it can be cancelled."""


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent died, so that they are reaped (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(known: Iterable[int]) -> None:
    """Collect adopted children that ended; those in `known` have somebody who waits for them."""
    waited_for = set(known)
    for child in psutil.Process().children():
        try:
            if child.pid not in waited_for and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue


def start(service: Service) -> Popen[bytes]:
    """Start a service's process as leader of its own session, output appended to its log."""
    if service.log.exists() and service.log.stat().st_size > LOG_LIMIT_BYTES:
        service.log.replace(service.log.with_suffix(".1.log"))
    with service.log.open("ab") as log:
        try:
            process = Popen(
                service.command,
                env=dict(service.environment),
                stdin=PIPE if service.standard_input is not None else DEVNULL,
                stdout=log,
                stderr=log,
                cwd=service.folder,
                start_new_session=True,
                **ownership(service.identity),
            )
        except OSError as error:
            raise Unavailable(f"{service.name}: {service.command[0]} cannot be started: {error}") from error
    if process.stdin is not None and service.standard_input is not None:
        with process.stdin as standard_input:
            standard_input.write(service.standard_input)
    return process


async def stop(service: Service, process: Popen[bytes]) -> None:
    """Ask the process to stop, and end it by force after the service's time; then whoever is left of its session."""
    if service.signals_group:
        _signal_group(process.pid, service.stop_signal)
    else:
        process.send_signal(service.stop_signal)
    if not await ended(process, within_s=service.stop_timeout_s):
        process.kill()
        await ended(process, within_s=service.stop_timeout_s)
    await end(session_members(process.pid))


async def ended(process: Popen[bytes], *, within_s: float) -> bool:
    """Wait until the process ended; False if it still runs after that time."""
    deadline = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_EVERY_S)
    return True


async def end(processes: Iterable[psutil.Process], *, grace_s: float = 5.0) -> None:
    """Ask each to stop; kill those that have not after `grace_s`."""
    living = list(processes)
    for process in living:
        _send(process, signal.SIGTERM)
    if not await gone(living, within_s=grace_s):
        for process in living:
            _send(process, signal.SIGKILL)
        await gone(living, within_s=grace_s)


async def gone(processes: list[psutil.Process], *, within_s: float) -> bool:
    """Wait until none lives; False if one still does after that time."""
    deadline = time.monotonic() + within_s
    while any(lives(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_EVERY_S)
    return True


def lives(process: psutil.Process) -> bool:
    """True while the process runs; one that ended and was not collected yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_members(leader: int) -> list[psutil.Process]:
    """The living processes of a session, whether or not its leader still lives."""
    return [process for process in psutil.process_iter() if _session(process.pid) == leader and lives(process)]


def strays(mark: str, *, sessions: Iterable[int] = ()) -> list[psutil.Process]:
    """Living processes that carry the mark of an `up`, are not ourselves and belong to none of these sessions."""
    spared = set(sessions)
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid()
        and _session(process.pid) not in spared
        and _mark(process) == mark
        and lives(process)
    ]


def record(name: str, pid: int, stop_signal: signal.Signals) -> ServiceProcess | None:
    """Describe a living process so that it can be recognised later; None when it is gone already."""
    try:
        return ServiceProcess(name, pid, psutil.Process(pid).create_time(), stop_signal.value)
    except psutil.NoSuchProcess:
        return None


def find(recorded: ServiceProcess) -> psutil.Process | None:
    """The recorded process if it still lives; another one that was given its number is not it."""
    try:
        process = psutil.Process(recorded.pid)
        is_same = abs(process.create_time() - recorded.created_at) < 1.0
    except psutil.NoSuchProcess:
        return None
    return process if is_same and lives(process) else None


def tail(log: Path, *, lines: int) -> str:
    """The last lines of a log that say something."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        said = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(said[-lines:])


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None
