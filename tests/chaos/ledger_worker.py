"""One process of a chaos run: many callers that hold, are billed, and close. Reads its orders as JSON from stdin.

Run as `python -m tests.chaos.ledger_worker`. Here, and only here, a test decides which ledger is composed.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from auterity_dagster.errors import BudgetExceeded, Unavailable
from auterity_dagster.relaycore.ports import Ledger, Settlement
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import LedgerSettings, open_ledger
from tests.chaos.negative_controls import ReadThenWriteLedger
from tests.fakes.ledger_requests import hold_request, usage_record


@dataclass(frozen=True, slots=True)
class Orders:
    """What one process does. `variant` is `exact`, `without_reaper` or `read_then_write`.

    At `dies_at_call`, or the first admitted call after it, the process kills itself: billed, and not yet settled.
    """

    variant: str
    url: str
    organization_id: str
    dealership_ids: list[str]
    calls: int
    clients: int
    seed: int
    expires_in_s: int
    folder: str
    name: str
    dies_at_call: int | None


@asynccontextmanager
async def composed(orders: Orders) -> AsyncGenerator[Ledger]:
    """The ledger under test, or a control."""
    if orders.variant == "read_then_write":
        database = Database(orders.url, pool_size=20)
        yield ReadThenWriteLedger(database)
        await database.close()
    else:
        reap_every_s = 3600.0 if orders.variant == "without_reaper" else 0.5
        async with open_ledger(orders.url, LedgerSettings(reap_every_s=reap_every_s)) as ledger:
            yield ledger


async def call(ledger: Ledger, orders: Orders, number: int, bill: int, history: int) -> None:
    """One call. The provider writes its bill, synced to disk, before anybody hears of the cost."""
    chance = random.Random(f"{orders.seed} {orders.name} {number}")
    request = replace(
        hold_request(UUID(orders.organization_id), amount_nusd=chance.randint(1, 2000)),
        dealership_id=UUID(chance.choice(orders.dealership_ids)),
        expires_in_s=orders.expires_in_s,
    )
    try:
        hold = await ledger.hold(request)
    except (BudgetExceeded, Unavailable) as refusal:
        phase = "refused" if isinstance(refusal, BudgetExceeded) else "failed"
        os.write(history, json.dumps({"call": f"{orders.name}-{number}", "phase": phase}).encode() + b"\n")
        return
    fate, cost_nusd = chance.random(), chance.randint(0, request.amount_nusd)
    if fate < 0.9:
        os.write(bill, f"{cost_nusd}\n".encode())
        await asyncio.to_thread(os.fsync, bill)
    if orders.dies_at_call is not None and number >= orders.dies_at_call:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(chance.random() / 100)
    if fate < 0.85:
        await ledger.settle(Settlement(hold, cost_nusd, usage_record()))
    elif fate < 0.9:
        await ledger.leave_unknown(hold, usage_record("timeout"))
    else:
        await ledger.void(hold, usage_record("connection"))
    os.write(history, json.dumps({"call": f"{orders.name}-{number}", "phase": "admitted"}).encode() + b"\n")


async def work(orders: Orders) -> None:
    """Let the clients make all calls, each the next one as soon as its last is done."""
    numbers = iter(range(orders.calls))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    bill = os.open(Path(orders.folder, f"{orders.name}.bill"), flags)
    history = os.open(Path(orders.folder, f"{orders.name}.history"), flags)

    async def client(ledger: Ledger) -> None:
        for number in numbers:
            await call(ledger, orders, number, bill, history)

    async with composed(orders) as ledger, asyncio.TaskGroup() as clients:
        for _ in range(orders.clients):
            clients.create_task(client(ledger))


if __name__ == "__main__":
    asyncio.run(work(Orders(**json.load(sys.stdin))))
