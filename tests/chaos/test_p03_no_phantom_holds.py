"""P-3: wherever in its work a process dies, its holds end, nothing billed is lost, and the room is there again."""

import asyncio
import json
import random
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.chaos.books import PATIENT, reap_all
from tests.chaos.checkers import budgets_are_exact, ledger_covers_bill, no_phantom_holds
from tests.chaos.failpoint_worker import Orders
from tests.chaos.failpoints import FAILPOINTS
from tests.chaos.ledger_processes import ROOT, SEED, Size, killed_processes
from tests.chaos.ledger_samples import sampling
from tests.conftest import DatabaseUrls
from tests.fakes.ledger_requests import hold_request, make_budget

CAP_NUSD = 100_000
PASSAGES = {"hold": 3, "settle": 2, "reap": 1, "answered": 30, "billed": 30, "drain": 1}
"""How often a worker of 40 calls passes its failpoint for certain: it dies at one of these passages."""

ACCOUNTS = """
SELECT coalesce(sum(amount_nusd) FILTER (WHERE account = 'spend'), 0)::bigint,
    coalesce(sum(amount_nusd) FILTER (WHERE account = 'suspense'), 0)::bigint FROM entry WHERE organization_id = %s
"""


async def killed(orders: list[Orders]) -> list[str]:
    """Run a process for each until it has killed itself at its failpoint; return those that were never reached."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.chaos.failpoint_worker"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(json.dumps([asdict(one) for one in orders]).encode())
    ends = zip(orders, json.loads(output), strict=True)
    return [f"{one.failpoint} was never reached ({end})" for one, end in ends if end != signal.SIGKILL]


async def died_everywhere(database: Database, urls: DatabaseUrls, folder: Path, *, kills: int) -> list[str]:
    """Kill a process at each failpoint so often, each in an organization of its own; return what went wrong."""
    chance, runs = random.Random(SEED), list[Orders]()
    for failpoint in FAILPOINTS:
        for _ in range(kills):
            organization_id, at = uuid4(), chance.randint(1, PASSAGES[failpoint.split()[-1]])
            await make_budget(database, organization_id, cap_nusd=CAP_NUSD)
            bill = str(folder / organization_id.hex)
            runs.append(Orders(urls.application, str(organization_id), failpoint, at, SEED, bill))
    async with sampling(urls.owner, every_s=0.1) as samples:
        problems = await killed(runs)
        await reap_all(urls.owner, urls.application)
    problems += [*budgets_are_exact(samples).reasons, *no_phantom_holds(samples[-1]).reasons]
    with psycopg.connect(urls.owner) as connection:
        for failpoint, organization_id in [(one.failpoint, UUID(one.organization_id)) for one in runs]:
            row = connection.execute(ACCOUNTS, (organization_id,)).fetchone()
            assert row is not None
            billed_nusd = sum(map(int, (folder / organization_id.hex).read_text().split()))
            covered = ledger_covers_bill(
                bill_nusd=billed_nusd, spend_nusd=row[0], suspense_nusd=row[1], is_settled=False
            )
            problems += [f"{failpoint}: {reason}" for reason in covered.reasons]
            problems += [f"{failpoint}: {one}" for one in await refused_with_room(urls, organization_id, sum(row))]
    return problems


async def refused_with_room(urls: DatabaseUrls, organization_id: UUID, used_nusd: int) -> list[str]:
    """Take all the room that is left in one hold, and not a nano-dollar more."""
    async with open_ledger(urls.application, PATIENT) as ledger:
        try:
            hold = await ledger.hold(hold_request(organization_id, amount_nusd=CAP_NUSD - used_nusd))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            return [f"refused with room: {error}"]
    return [] if hold.budget_left_nusd == 0 else [f"{hold.budget_left_nusd} nano-dollars of room too many"]


async def test_a_process_that_dies_at_any_of_twelve_places_leaves_no_phantom_hold(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    assert await died_everywhere(database, database_urls, tmp_path, kills=1) == []


@pytest.mark.chaos
@pytest.mark.promise("P-3")
@pytest.mark.timeout(1800)
async def test_a_hundred_and_twenty_deaths_leave_no_phantom_hold(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path, noted: dict[str, int]
) -> None:
    noted |= {"n": len(FAILPOINTS) * 10, "failpoints": len(FAILPOINTS)}

    assert await died_everywhere(database, database_urls, tmp_path, kills=10) == []


@pytest.mark.control
@pytest.mark.promise("P-3", control=True)
async def test_phantom_holds_are_found_when_nobody_reaps(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    size = Size(calls=200, clients=40, processes=2, budgets=5)

    _, samples = await killed_processes(database, database_urls, tmp_path, size, variant="without_reaper")

    assert not no_phantom_holds(samples[-1]).is_held
