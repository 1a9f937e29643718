"""Processes that work on the ledger until each kills itself at its failpoint.

Run as `python -m tests.chaos.failpoint_worker`: it reads a list of orders as JSON from stdin, forks a process for each
(a fork has nothing to load), and prints how each ended.
"""

import asyncio
import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from auterity_dagster.relaycore.ports import Ledger, Settlement
from auterity_dagster.storage.repositories.ledger import LedgerSettings, PostgresLedger, open_ledger
from tests.chaos.failpoints import DeadlyConnections, die
from tests.fakes.ledger_requests import hold_request, usage_record

CALLS = 40
CLIENTS = 10
AT_ONCE = 6
PATIENT = LedgerSettings(connect_within_s=30, answer_within_s=60, reap_every_s=3600, drain_within_s=60)


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do, and where to die: at the failpoint, the `at`-th time it is passed."""

    url: str
    organization_id: str
    failpoint: str
    at: int
    seed: int
    bill: str


async def call(ledger: Ledger, orders: Orders, number: int, bill: int) -> None:
    """Hold, be billed (on disk before anybody hears of it), settle."""
    chance = random.Random(f"{orders.seed} {orders.failpoint} {number}")
    request = hold_request(
        UUID(orders.organization_id),
        amount_nusd=chance.randint(1, 2000),
        # The reaper's failpoints need holds that expire while the process still lives.
        expires_in_s=1 if orders.failpoint.endswith("reap") else 60,
    )
    hold = await ledger.hold(request)
    is_due = number + 1 >= orders.at
    if orders.failpoint == "hold answered" and is_due:
        die()
    cost_nusd = chance.randint(0, request.amount_nusd)
    os.write(bill, f"{cost_nusd}\n".encode())
    if orders.failpoint == "provider billed" and is_due:
        die()
    if not orders.failpoint.endswith("reap"):
        await ledger.settle(Settlement(hold, cost_nusd, usage_record()))


async def work(orders: Orders) -> None:
    """Make the calls; whoever is still alive drains, and reaps."""
    DeadlyConnections.failpoint = "before settle" if orders.failpoint == "drain" else orders.failpoint
    DeadlyConnections.at = 1 if orders.failpoint == "drain" else orders.at
    DeadlyConnections.is_armed = orders.failpoint not in ("drain", "hold answered", "provider billed")
    bill = os.open(Path(orders.bill), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    numbers = iter(range(CALLS))

    async with open_ledger(orders.url, PATIENT, connected=DeadlyConnections) as ledger:

        async def client() -> None:
            for number in numbers:
                await call(ledger, orders, number, bill)

        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(client())
        if orders.failpoint == "drain":
            DeadlyConnections.is_armed = True
        if orders.failpoint.endswith("reap"):
            await reaped(ledger)


async def reaped(ledger: PostgresLedger) -> None:
    while True:
        await asyncio.sleep(0.2)
        await ledger.reap()


def ended(all_orders: list[Orders]) -> list[int]:
    """Fork a process for each, a few at a time; return the signals that ended them, 0 for one that went on living."""
    numbers: dict[int, int] = {}
    ends = [0] * len(all_orders)

    def wait_for_one() -> None:
        pid, status = os.wait()
        ends[numbers.pop(pid)] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    for number, orders in enumerate(all_orders):
        if len(numbers) == AT_ONCE:
            wait_for_one()
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(work(orders))
            finally:
                os._exit(0)
        numbers[pid] = number
    while numbers:
        wait_for_one()
    return ends


if __name__ == "__main__":
    json.dump(ended([Orders(**one) for one in json.load(sys.stdin)]), sys.stdout)
