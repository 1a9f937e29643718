"""Keep services running: start them in order, restart with back-off, say each change of state, stop them in order."""

import asyncio
import time
from collections.abc import Callable
from subprocess import Popen

from auterity_dagster.embedded.backoff import Backoff
from auterity_dagster.embedded.processes import (
    end,
    ended,
    reap_orphans,
    record,
    session_members,
    start,
    stop,
    strays,
    tail,
)
from auterity_dagster.embedded.supervised_service import Service, ServiceProcess, Step, stop_order
from auterity_dagster.errors import AuterityError, Unavailable

START_ATTEMPTS = 3
PROBE_EVERY_S = 0.4
WATCH_EVERY_S = 15.0
SICK_AFTER_PROBES = 3


class _StopRequested(Exception):
    """Leaves the task group when `stop` was asked for."""


class Supervisor:
    """Runs services and steps until it is asked to stop.

    `announce(name, text)` is told each change of state; `changed(processes)` whenever a process started or ended;
    `all_healthy()` once, when every step is done and every service answers. `mark` is the value of the environment
    variable `processes.MARK` in every service's environment.
    """

    def __init__(
        self,
        services: tuple[Service, ...],
        steps: tuple[Step, ...],
        *,
        mark: str,
        backoff: Backoff,
        announce: Callable[[str, str], None],
        changed: Callable[[tuple[ServiceProcess, ...]], None],
        all_healthy: Callable[[], None],
    ) -> None:
        self._services, self._steps, self._mark, self._backoff = services, steps, mark, backoff
        self._announce, self._changed, self._all_healthy = announce, changed, all_healthy
        self._ready = {item.name: asyncio.Event() for item in (*services, *steps)}
        self._processes: dict[str, Popen[bytes]] = {}
        self._stop_requested = asyncio.Event()

    def request_stop(self) -> None:
        """Ask `run` to stop everything and return; safe in a signal handler of the event loop."""
        self._stop_requested.set()

    async def run(self) -> None:
        """Run until asked to stop; nothing is left when it returns or raises.

        Raises `Unavailable` (or what a step raised) when something cannot be brought up.
        """
        failures: list[AuterityError] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._wait_for_stop())
                group.create_task(self._wait_for_all())
                group.create_task(self._reap())
                for step in self._steps:
                    group.create_task(self._do(step))
                for service in self._services:
                    group.create_task(self._keep(service))
        except* _StopRequested:
            self._announce("auterity", "stopping")
        except* AuterityError as raised:
            failures.extend(error for error in raised.exceptions if isinstance(error, AuterityError))
        finally:
            await asyncio.shield(self._stop_all())
        if failures:
            raise failures[0]

    async def _wait_for_stop(self) -> None:
        await self._stop_requested.wait()
        raise _StopRequested

    async def _wait_for_all(self) -> None:
        for event in self._ready.values():
            await event.wait()
        self._all_healthy()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            reap_orphans(process.pid for process in self._processes.values())

    async def _do(self, step: Step) -> None:
        await self._wait_for(step.after)
        begun = time.monotonic()
        await step.action()
        self._announce(step.name, f"done in {time.monotonic() - begun:.1f} s")
        self._ready[step.name].set()

    async def _keep(self, service: Service) -> None:
        await self._wait_for(service.after)
        failures = 0
        while True:
            begun = time.monotonic()
            self._announce(service.name, "starting")
            process = start(service)
            self._processes[service.name] = process
            self._tell_processes()
            healthy_s = 0.0
            if await self._becomes_healthy(service, process):
                self._announce(service.name, f"healthy after {time.monotonic() - begun:.1f} s{_at(service)}")
                self._ready[service.name].set()
                begun = time.monotonic()
                await self._until_exit(service, process)
                healthy_s = time.monotonic() - begun
            reason = "did not become healthy in time" if process.returncode is None else _ending(process.returncode)
            await self._clear(service, process)
            failures = self._backoff.failures_after(failures, healthy_s=healthy_s)
            if failures >= START_ATTEMPTS and not self._ready[service.name].is_set():
                end_of_log = tail(service.log, lines=12)
                raise Unavailable(f"{service.name} {reason}, {failures} times; {service.log} ends with:\n{end_of_log}")
            delay_s = self._backoff.delay_s(failures)
            self._announce(service.name, f"{reason}; starts again in {delay_s:.1f} s (log: {service.log})")
            await asyncio.sleep(delay_s)

    async def _becomes_healthy(self, service: Service, process: Popen[bytes]) -> bool:
        deadline = time.monotonic() + service.start_timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            if await service.probe():
                return True
            await asyncio.sleep(PROBE_EVERY_S)
        return False

    async def _until_exit(self, service: Service, process: Popen[bytes]) -> None:
        """Return when the process ended; say when it stops answering and when it answers again."""
        missed = 0
        while not await ended(process, within_s=WATCH_EVERY_S):
            answers = await service.probe()
            if missed >= SICK_AFTER_PROBES and answers:
                self._announce(service.name, f"healthy again{_at(service)}")
            missed = 0 if answers else missed + 1
            if missed == SICK_AFTER_PROBES:
                self._announce(service.name, f"runs but does not answer (log: {service.log})")

    async def _clear(self, service: Service, process: Popen[bytes]) -> None:
        """End what a failed process left, except work that goes on without it."""
        if process.returncode is None:
            await stop(service, process)
        elif not service.spares_children:
            await end(session_members(process.pid))
        del self._processes[service.name]
        self._tell_processes()

    async def _stop_all(self) -> None:
        for group in stop_order(self._services, self._steps):
            running = [service for service in group if service.name in self._processes]
            async with asyncio.TaskGroup() as stopping:
                for service in running:
                    stopping.create_task(self._stop(service))
            await end(strays(self._mark, sessions=[process.pid for process in self._processes.values()]))
        reap_orphans(())

    async def _stop(self, service: Service) -> None:
        await stop(service, self._processes[service.name])
        del self._processes[service.name]
        self._tell_processes()
        self._announce(service.name, "stopped")

    async def _wait_for(self, names: tuple[str, ...]) -> None:
        for name in names:
            await self._ready[name].wait()

    def _tell_processes(self) -> None:
        by_name = {service.name: service for service in self._services}
        records = (record(name, process.pid, by_name[name].stop_signal) for name, process in self._processes.items())
        self._changed(tuple(recorded for recorded in records if recorded is not None))


def _at(service: Service) -> str:
    return f" at {service.address}" if service.address else ""


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
