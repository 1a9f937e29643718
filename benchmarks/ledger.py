"""Hold and settle on one hot budget, each in a transaction of its own against group commit, in one run.

Starts its own PostgreSQL with fsync on. The rounds alternate, so that both variants meet the same machine.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

from auterity_dagster.embedded.postgres import start_postgres
from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.relaycore.ports import HoldRequest, Ledger, Settlement, UsageRecord
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.migrate import migrate
from auterity_dagster.storage.repositories.budgets import NewBudget, create_budget
from auterity_dagster.storage.repositories.ledger import LedgerSettings, open_ledger

PASSWORD = "only-for-benchmarks"
KEY_ID = uuid4()
USED = UsageRecord(
    outcome="ok",
    usage=Usage(prompt_tokens=300, completion_tokens=60),
    latency_ms=100,
    first_token_ms=None,
    is_streamed=False,
    provider_request_id=None,
    task="lead_reply",
    policy_digest="",
    rule=None,
)


def wanted(organization_id: UUID) -> HoldRequest:
    return HoldRequest(
        organization_id=organization_id,
        dealership_id=None,
        key_id=KEY_ID,
        user_id=None,
        purpose="workflow",
        tags=(),
        request_id=uuid4(),
        attempt=1,
        deployment_id="sandbox-large",
        price_key="sandbox/large",
        price_digest="",
        amount_nusd=100,
        prompt_nusd=50,
        max_tokens=60,
        expires_in_s=60,
    )


async def hard_budget(database: Database, organization_id: UUID, *, cap_nusd: int) -> None:
    budget = NewBudget("Hot", Scope.ORGANIZATION, "*", Period.MONTH, "UTC", cap_nusd, Enforcement.HARD)
    async with database.begin(organization_id) as session:
        await create_budget(session, organization_id, budget)


async def measured(url: str, organization_id: UUID, *, batch_limit: int, calls: int, clients: int) -> float:
    """Holds that were made and settled per second, the last one booked."""
    async with open_ledger(url, LedgerSettings(batch_limit=batch_limit, reap_every_s=3600)) as ledger:
        await ledger.hold(wanted(organization_id))
        numbers = iter(range(calls))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(_client(ledger, organization_id, numbers))
        await ledger.drain()
        return calls / (time.perf_counter() - began)


async def refusals(url: str, organization_id: UUID, *, calls: int, clients: int) -> float:
    """Refusals per second of a budget that is empty."""
    async with open_ledger(url, LedgerSettings(reap_every_s=3600)) as ledger:
        numbers = iter(range(calls))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(_refused(ledger, organization_id, numbers))
        return calls / (time.perf_counter() - began)


async def _client(ledger: Ledger, organization_id: UUID, numbers) -> None:
    for _ in numbers:
        hold = await ledger.hold(wanted(organization_id))
        await ledger.settle(Settlement(hold, 60, USED))


async def _refused(ledger: Ledger, organization_id: UUID, numbers) -> None:
    for _ in numbers:
        try:
            await ledger.hold(wanted(organization_id))
        except BudgetExceeded:
            continue
        raise AssertionError("an empty budget admitted a hold")


async def compare(url: str, *, rounds: int, calls: int, clients: int) -> None:
    database, hot, empty = Database(url), uuid4(), uuid4()
    await hard_budget(database, hot, cap_nusd=10**15)
    await hard_budget(database, empty, cap_nusd=0)
    await database.close()
    singly: list[float] = []
    batched: list[float] = []
    for number in range(rounds):
        singly.append(await measured(url, hot, batch_limit=1, calls=calls // 8, clients=clients))
        batched.append(await measured(url, hot, batch_limit=32, calls=calls, clients=clients))
        print(f"round {number + 1}: singly {singly[-1]:,.0f}/s, batched {batched[-1]:,.0f}/s")
    refused = await refusals(url, empty, calls=calls, clients=clients)
    ratio = statistics.median(batched) / statistics.median(singly)
    print(f"median of {rounds} rounds, {clients} clients, one hot hard budget, fsync on:")
    print(f"  singly   {statistics.median(singly):8,.0f} hold+settle/s")
    print(f"  batched  {statistics.median(batched):8,.0f} hold+settle/s  ({ratio:.1f} x)")
    print(f"  refused  {refused:8,.0f} /s of an empty budget")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000, help="batched calls a round; an eighth of it singly")
    parser.add_argument("--clients", type=int, default=128)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="auterity-benchmark-"))
    folder.chmod(0o755)
    server = start_postgres(folder / "postgres")
    try:
        migrate(server.url(), application_password=PASSWORD)
        url = server.url(user="auterity_app", password=PASSWORD)
        asyncio.run(compare(url, rounds=asked.rounds, calls=asked.calls, clients=asked.clients))
    finally:
        server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
