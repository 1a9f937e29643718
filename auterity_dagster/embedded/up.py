"""`auterity up`: run everything until it is told to stop, and leave nothing behind."""

import asyncio
import os
import signal
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from sqlalchemy.engine import make_url

from auterity_dagster.clock import Clock, SystemClock
from auterity_dagster.embedded.addresses import Ports
from auterity_dagster.embedded.announcement import Announcement, address_table, write_announcement
from auterity_dagster.embedded.backoff import Backoff
from auterity_dagster.embedded.composition import compose
from auterity_dagster.embedded.data_folder import DataFolder, owned, recover, write_record
from auterity_dagster.embedded.processes import adopt_orphans
from auterity_dagster.embedded.stack import Stack
from auterity_dagster.embedded.supervised_service import ServiceProcess
from auterity_dagster.embedded.supervisor import Supervisor
from auterity_dagster.settings import UpSettings


@dataclass(frozen=True, slots=True)
class Voice:
    """Says one line per change of state."""

    console: Console
    clock: Clock

    def say(self, name: str, text: str) -> None:
        """`12:30:59  gateway         healthy after 2.1 s`"""
        local = self.clock.now().astimezone()
        self.console.print(f"{local:%H:%M:%S}  {name:<15} {text}", highlight=False, markup=False, soft_wrap=True)


def run_up(settings: UpSettings, *, ports: Ports, console: Console) -> None:
    """Run until SIGINT or SIGTERM. Raises an `AuterityError` whose message says what stands in the way."""
    folder, voice = DataFolder(settings.data_dir.resolve()), Voice(console, SystemClock())
    folder.prepare()
    with owned(folder):
        adopt_orphans()
        asyncio.run(recover(folder, announce=voice.say))
        stack = compose(settings, folder=folder, ports=ports, announce=voice.say)
        asyncio.run(_Run(stack, voice).run())


class _Run:
    """One `up` from the first process to the last, and what it writes about itself."""

    def __init__(self, stack: Stack, voice: Voice) -> None:
        self._stack, self._voice = stack, voice
        self._started_at = voice.clock.now()
        self._processes: tuple[ServiceProcess, ...] = ()
        self._is_announced = False

    async def run(self) -> None:
        supervisor = Supervisor(
            self._stack.services(),
            self._stack.steps(),
            mark=self._stack.environments.mark,
            backoff=Backoff(),
            announce=self._voice.say,
            changed=self._changed,
            all_healthy=self._all_healthy,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, supervisor)
        try:
            await supervisor.run()
        finally:
            self._withdraw()
            self._stack.folder.record.unlink(missing_ok=True)
            self._voice.say("auterity", "everything is stopped")

    def _all_healthy(self) -> None:
        seconds = (self._voice.clock.now() - self._started_at).total_seconds()
        announcement = _announcement(self._stack, started_at=self._started_at, processes=self._processes)
        write_announcement(self._stack.folder, announcement)
        self._is_announced = True
        self._voice.say("auterity", f"all healthy after {seconds:.0f} s")
        self._voice.console.print(address_table(announcement))

    def _changed(self, processes: tuple[ServiceProcess, ...]) -> None:
        self._processes = processes
        write_record(self._stack.folder, mark=self._stack.environments.mark, processes=processes)
        if self._is_announced:
            announcement = _announcement(self._stack, started_at=self._started_at, processes=processes)
            write_announcement(self._stack.folder, announcement)

    def _stop(self, supervisor: Supervisor) -> None:
        self._withdraw()
        supervisor.request_stop()

    def _withdraw(self) -> None:
        self._is_announced = False
        self._stack.folder.announcement.unlink(missing_ok=True)


def _announcement(stack: Stack, *, started_at: datetime, processes: tuple[ServiceProcess, ...]) -> Announcement:
    environments = stack.environments
    return Announcement(
        pid=os.getpid(),
        started_at=started_at,
        data_dir=stack.folder.root,
        secrets_dir=environments.secrets_dir,
        config_dir=environments.config_dir,
        urls=environments.urls,
        database_url=make_url(environments.databases.application).render_as_string(),
        redis_url=make_url(environments.redis_url).render_as_string() if stack.redis_password is not None else None,
        processes=processes,
    )
