"""Starting ledger workers as real processes, killing some, and reading what they left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from auterity_dagster.relaycore.budget import Scope
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import LedgerSettings, open_ledger
from tests.chaos.checkers import LedgerSample, Outcome
from tests.chaos.ledger_samples import sampling
from tests.chaos.ledger_worker import Orders
from tests.conftest import DatabaseUrls
from tests.fakes.ledger_requests import make_budget

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("SEED", "20261124"))


@dataclass(frozen=True, slots=True)
class Size:
    """How big a run is. The caps admit about six of ten nano-dollars asked for."""

    calls: int
    clients: int
    processes: int
    budgets: int
    expires_in_s: int = 60


@dataclass(frozen=True, slots=True)
class Run:
    """One run's organization, its budgets' dealerships, and the folder with bills and histories."""

    organization_id: UUID
    dealership_ids: tuple[UUID, ...]
    folder: Path
    size: Size

    def outcomes(self) -> list[Outcome]:
        """What every call of every process came to."""
        lines = [line for path in self.folder.glob("*.history") for line in path.read_text().splitlines()]
        return [Outcome(**json.loads(line)) for line in lines]

    def bill_nusd(self) -> int:
        """What the provider billed in all."""
        return sum(int(line) for path in self.folder.glob("*.bill") for line in path.read_text().splitlines())


async def prepared(database: Database, folder: Path, size: Size) -> Run:
    """One hard budget over everything and one per dealership; a call is bound by two of them."""
    organization_id = uuid4()
    dealership_ids = tuple(uuid4() for _ in range(size.budgets - 1))
    # Of 1,000 nano-dollars asked for on average about half is given back: settled costs are half of a hold.
    asked_nusd = size.calls * 500
    await make_budget(database, organization_id, name="All", cap_nusd=asked_nusd * 6 // 10)
    for number, dealership_id in enumerate(dealership_ids):
        share_nusd = asked_nusd * 7 // 10 // len(dealership_ids)
        await make_budget(
            database,
            organization_id,
            name=f"Dealership {number}",
            cap_nusd=share_nusd,
            scope=Scope.DEALERSHIP,
            value=str(dealership_id),
        )
    return Run(organization_id, dealership_ids, folder, size)


async def run_processes(run: Run, url: str, *, variant: str = "exact", dies_at: Sequence[float] = ()) -> None:
    """Run the workers to their end; the first ones are killed in a call, when that share of their own is done."""
    processes = [
        await _started(run, url, number, variant, dies_at[number] if number < len(dies_at) else None)
        for number in range(run.size.processes)
    ]
    codes = [await process.wait() for process in processes]
    expected = [-signal.SIGKILL if number < len(dies_at) else 0 for number in range(len(codes))]
    if codes != expected:
        raise AssertionError(f"the workers ended with {codes}, expected {expected}")


async def killed_processes(
    database: Database, database_urls: DatabaseUrls, folder: Path, size: Size, *, variant: str
) -> tuple[Run, list[LedgerSample]]:
    """A run in which every process but the last is killed, and then the time until the holds have expired."""
    run = await prepared(database, folder, size)
    shares = [0.3 + 0.3 * number for number in range(size.processes - 1)]
    async with sampling(database_urls.owner, every_s=0.02) as samples:
        await run_processes(run, database_urls.application, variant=variant, dies_at=shares)
        if variant == "exact":
            await reaped(database_urls)
    return run, samples


async def reaped(database_urls: DatabaseUrls) -> None:
    """A process that comes up after the crash: its reaper closes what the dead ones held, once it has expired."""
    last_expires = "SELECT greatest(extract(epoch FROM max(expires_at) - now()), 0) FROM hold WHERE state = 'held'"
    with psycopg.connect(database_urls.owner) as connection:
        row = connection.execute(last_expires).fetchone()
    assert row is not None
    await asyncio.sleep(float(row[0] or 0))
    async with open_ledger(database_urls.application, LedgerSettings(reap_every_s=3600)) as ledger:
        while await ledger.reap():
            pass


async def _started(run: Run, url: str, number: int, variant: str, dies_at: float | None) -> asyncio.subprocess.Process:
    size = run.size
    orders = Orders(
        variant=variant,
        url=url,
        organization_id=str(run.organization_id),
        dealership_ids=[str(one) for one in run.dealership_ids],
        calls=size.calls // size.processes,
        clients=size.clients // size.processes,
        seed=SEED,
        expires_in_s=size.expires_in_s,
        folder=str(run.folder),
        name=f"w{number}",
        dies_at_call=None if dies_at is None else int(size.calls // size.processes * dies_at),
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.ledger_worker", cwd=ROOT, stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(orders)).encode())
    await process.stdin.drain()
    process.stdin.close()
    return process
