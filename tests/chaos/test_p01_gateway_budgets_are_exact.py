"""P-1 over HTTP: 200 concurrent calls through two gateway processes against one budget that admits fewer."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest

from auterity_dagster.relaycore.budget import Scope
from auterity_dagster.storage.database import Database
from tests.chaos.books import reap_all, reconcile_bill
from tests.chaos.checkers import LedgerSample, Outcome, both_were_tried, budgets_are_exact, ledger_covers_bill
from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.gateway_processes import gateway_processes
from tests.chaos.gateway_storm import Call, storm
from tests.chaos.ledger_processes import SEED
from tests.chaos.ledger_samples import sampling, spend_and_suspense
from tests.chaos.negative_controls import DROP_CHECK
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack
from tests.fakes.ledger_requests import make_budget

CALLS = 200
BODY = {"model": "sandbox-small", "messages": QUESTION, "max_tokens": 64}
CAP_NUSD = 1_500_000
"""Room for about 30 holds of such calls at a time, and for about 60 such calls in all."""

GATEWAY = "auterity_dagster.serving.relaycore.app:create_app"
CONTROL = "tests.chaos.gateway_read_then_write:create_app"


async def stormed(
    stack: Stack, urls: DatabaseUrls, redis_url: str, folder: Path, *, app: str
) -> tuple[list[LedgerSample], Counter[int]]:
    """Send all calls at once to two processes; return what the ledger looked like meanwhile, and the statuses."""
    processes = gateway_processes(
        2, urls=urls, redis_url=redis_url, secrets_dir=folder / "secrets", sandbox_url=stack.sandbox_url, app=app
    )
    headers = {"authorization": f"Bearer {stack.key}"}
    limits = httpx.Limits(max_connections=CALLS)
    async with (
        processes as addresses,
        httpx.AsyncClient(headers=headers, timeout=120, limits=limits) as client,
        sampling(urls.owner, every_s=0.02) as samples,
    ):
        calls = [client.post(f"{addresses[n % 2]}/v1/chat/completions", json=BODY) for n in range(CALLS)]
        answers = await asyncio.gather(*calls)
    return samples, Counter(answer.status_code for answer in answers)


async def test_two_hundred_calls_through_two_gateways_never_exceed_the_budget(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path, token_latency_ms=2) as stack:
        await make_budget(stack.database, stack.organization_id, cap_nusd=CAP_NUSD)

        samples, statuses = await stormed(stack, database_urls, redis_url, tmp_path, app=GATEWAY)
        bill_nusd = sum(line["cost_nusd"] for line in await stack.bill())

    spend_nusd, suspense_nusd = await spend_and_suspense(database_urls.owner)
    phases = {200: "admitted", 402: "refused"}
    outcomes = [Outcome("", phases.get(status, "failed")) for status in statuses.elements()]
    verdicts = (
        budgets_are_exact(samples),
        both_were_tried(outcomes, at_least=20),
        ledger_covers_bill(bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=True),
    )
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []
    assert set(statuses) == {200, 402}
    assert bill_nusd <= CAP_NUSD


@pytest.mark.slow
@pytest.mark.control
@pytest.mark.promise("P-1", control=True)
async def test_a_gateway_on_a_ledger_that_reads_and_then_writes_is_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path, token_latency_ms=2) as stack:
        await make_budget(stack.database, stack.organization_id, cap_nusd=CAP_NUSD)
        await stack.ask(BODY)  # the window exists from now on
        await stack.closed_holds(1)
        with psycopg.connect(database_urls.owner) as connection:
            connection.execute(DROP_CHECK)

        samples, _ = await stormed(stack, database_urls, redis_url, tmp_path, app=CONTROL)

    assert not budgets_are_exact(samples).is_held


@pytest.mark.chaos
@pytest.mark.promise("P-1")
@pytest.mark.timeout(1800)
async def test_no_budget_is_exceeded_while_gateways_redis_and_postgresql_are_killed(noted: dict[str, int]) -> None:
    async with running_cluster(gateways=3) as cluster:
        calls, cap_nusd = await tagged_calls(cluster, count=20_000, tags=49)
        faults = {
            0.3: lambda: cluster.kill_gateway(0),
            0.5: cluster.kill_valkey,
            0.6: lambda: cluster.kill_gateway(1),
            0.75: cluster.kill_postgres,
        }
        async with sampling(cluster.owner_url, every_s=0.1) as samples:
            answers = await storm(
                cluster, calls, clients=200, seed=SEED, faults=faults, comes_back=lambda heard: heard.phase == "failed"
            )
            await reap_all(cluster.owner_url, cluster.application_url)
        bill = await cluster.bill()
        bill_nusd = sum(line["cost_nusd"] for line in bill)
        spend_nusd, suspense_nusd = await spend_and_suspense(cluster.owner_url)
        covered = ledger_covers_bill(
            bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=False
        )
        unexplained = reconcile_bill(cluster.owner_url, cluster.application_url, cluster.organization_id, bill)
        spend_nusd, suspense_nusd = await spend_and_suspense(cluster.owner_url)
        equal = ledger_covers_bill(
            bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=True
        )

    outcomes = [Outcome("", answer.phase) for answer in answers]
    verdicts = (budgets_are_exact(samples), both_were_tried(outcomes, at_least=len(calls) // 5), covered, equal)
    noted |= {"n": len(calls), "samples": len(samples), "bill_nusd": bill_nusd, "spend_nusd": spend_nusd}
    noted |= {"max_over_nusd": max(sample.max_over_nusd for sample in samples)} | dict(verdicts[1].numbers)
    noted |= {"tried_again": sum(answer.tries - 1 for answer in answers)}
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []
    assert (suspense_nusd, unexplained) == (0, 0)
    assert bill_nusd <= cap_nusd
    assert (len(answers), verdicts[1].numbers["failed"]) == (20_000, 0)


async def tagged_calls(cluster: Cluster, *, count: int, tags: int) -> tuple[list[Call], int]:
    """Calls that draw on a budget of everything and one of their tag; both have room for about six of ten.

    Also returns what the provider may bill in all: the cap of everything, and the probe before there was one.
    """
    body = {"model": "sandbox-small", "messages": QUESTION, "max_tokens": 64}
    headers = {"x-auterity-timeout-s": "30"}
    [probe] = await storm(cluster, [Call(body, headers)], clients=1, seed=0)
    assert probe.status == 200
    [line] = await cluster.bill()
    cap_nusd = line["cost_nusd"] * count * 6 // 10
    database = Database(cluster.application_url)
    await make_budget(database, cluster.organization_id, name="All", cap_nusd=cap_nusd)
    for number in range(tags):
        await make_budget(
            database,
            cluster.organization_id,
            name=f"Tag {number}",
            cap_nusd=cap_nusd * 12 // 10 // tags,
            scope=Scope.TAG,
            value=f"tag-{number}",
        )
    await database.close()
    chance = random.Random(SEED)
    calls = [Call(body, headers | {"x-auterity-tags": f"tag-{chance.randrange(tags)}"}) for _ in range(count)]
    return calls, cap_nusd + line["cost_nusd"]
