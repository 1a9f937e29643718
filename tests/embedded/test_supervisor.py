import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from auterity_dagster.embedded.backoff import Backoff
from auterity_dagster.embedded.processes import MARK, adopt_orphans, strays
from auterity_dagster.embedded.supervised_service import Service, ServiceProcess, Step
from auterity_dagster.embedded.supervisor import Supervisor
from auterity_dagster.errors import Unavailable

SERVER = Path(__file__).parent / "small_server.py"
MARK_OF_THIS_RUN = uuid4().hex


def small_server(folder: Path, manner: str, *, name: str = "server", **options: object) -> Service:
    async def probe() -> bool:
        return (folder / name / "healthy").exists()

    return Service(
        name=name,
        command=(sys.executable, str(SERVER), manner, str(folder / name)),
        environment={MARK: MARK_OF_THIS_RUN},
        probe=probe,
        log=folder / f"{name}.log",
        stop_timeout_s=1.0,
        **options,  # type: ignore[arg-type]
    )


class Observed:
    """A supervisor at work, and what it said."""

    def __init__(self, services: tuple[Service, ...], steps: tuple[Step, ...] = ()) -> None:
        self.said: list[tuple[str, str]] = []
        self.processes: tuple[ServiceProcess, ...] = ()
        self.healthy = asyncio.Event()
        self._spoken = asyncio.Condition()
        self.supervisor = Supervisor(
            services,
            steps,
            mark=MARK_OF_THIS_RUN,
            backoff=Backoff(first_s=0.01),
            announce=lambda name, text: self.said.append((name, text)),
            changed=self._note,
            all_healthy=self.healthy.set,
        )

    def _note(self, processes: tuple[ServiceProcess, ...]) -> None:
        self.processes = processes

    def count(self, name: str, beginning: str) -> int:
        return sum(said == name and text.startswith(beginning) for said, text in self.said)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.supervisor.run())
        await asyncio.wait_for(self.healthy.wait(), 20)
        yield
        self.supervisor.request_stop()
        await asyncio.wait_for(task, 20)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (other processes raise no event)
            await asyncio.sleep(0.02)


def left() -> list[psutil.Process]:
    return strays(MARK_OF_THIS_RUN)


async def test_services_start_after_what_they_need_and_stop_before_it(tmp_path: Path) -> None:
    done: list[str] = []

    async def migrate() -> None:
        done.append("migrated" if (tmp_path / "database" / "healthy").exists() else "too early")

    database = small_server(tmp_path, "plain", name="database")
    gateway = small_server(tmp_path, "plain", name="gateway", after=("migrations",))
    observed = Observed((gateway, database), (Step(name="migrations", action=migrate, after=("database",)),))

    async with observed.running():
        assert done == ["migrated"]
        assert {process.name for process in observed.processes} == {"gateway", "database"}

    order = [name for name, text in observed.said if text in {"starting", "stopped"}]
    assert order == ["database", "gateway", "gateway", "database"]
    assert left() == []


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    observed = Observed((small_server(tmp_path, "plain"),))

    async with observed.running():
        first = observed.processes[0].pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: observed.count("server", "healthy") == 2)

        assert observed.processes[0].pid != first
        assert observed.count("server", "was ended by signal 9; starts again in") == 1

    assert left() == []


async def test_what_cannot_start_is_given_up_with_the_end_of_its_log_and_nothing_is_left(tmp_path: Path) -> None:
    observed = Observed((small_server(tmp_path, "plain"), small_server(tmp_path, "broken", name="broken")))

    with pytest.raises(Unavailable) as raised:
        await observed.supervisor.run()

    assert "broken ended with exit code 3, 3 times" in raised.value.message
    assert "the disk is made of cheese" in raised.value.message
    assert left() == []


async def test_a_step_that_fails_stops_everything_with_its_own_message(tmp_path: Path) -> None:
    async def fail() -> None:
        raise Unavailable("the database cannot be migrated")

    observed = Observed((small_server(tmp_path, "plain"),), (Step(name="migrations", action=fail, after=("server",)),))

    with pytest.raises(Unavailable, match="the database cannot be migrated"):
        await observed.supervisor.run()

    assert left() == []


@pytest.mark.parametrize("manner", ["stubborn", "parent", "escaping"])
async def test_nothing_is_left_however_a_process_behaves(tmp_path: Path, manner: str) -> None:
    adopt_orphans()
    observed = Observed((small_server(tmp_path, manner),))

    async with observed.running():
        assert left() != []

    assert left() == []


async def test_the_rest_of_a_dead_process_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    observed = Observed((small_server(tmp_path, "parent"),))

    async with observed.running():
        child = psutil.Process(observed.processes[0].pid).children()[0]
        os.kill(observed.processes[0].pid, signal.SIGKILL)
        await until(lambda: observed.count("server", "healthy") == 2)

        assert child not in left()


async def test_work_that_goes_on_without_its_server_is_spared_until_the_stop(tmp_path: Path) -> None:
    observed = Observed((small_server(tmp_path, "parent", spares_children=True),))

    async with observed.running():
        child = psutil.Process(observed.processes[0].pid).children()[0]
        os.kill(observed.processes[0].pid, signal.SIGKILL)
        await until(lambda: observed.count("server", "healthy") == 2)

        assert child in left()

    assert left() == []
