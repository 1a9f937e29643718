"""P-1 with streams that are held by slices: no budget is exceeded, and no provider billed more, whatever is killed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from auterity_dagster.relaycore.ports import Ledger
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.chaos.books import reap_all, reconcile_bill
from tests.chaos.checkers import Outcome, both_were_tried, budgets_are_exact, ledger_covers_bill
from tests.chaos.cluster import running_cluster
from tests.chaos.gateway_storm import Call, storm
from tests.chaos.ledger_processes import SEED
from tests.chaos.ledger_samples import sampling, spend_and_suspense
from tests.chaos.negative_controls import ExtendsWithoutHoldingLedger
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, running_stack
from tests.fakes.ledger_requests import make_budget
from tests.fakes.long_answers import BODY, OUTPUT_NUSD, amounts, billed, sliced_config, streamed

STREAMS = 600
HEADERS = {"x-auterity-timeout-s": "60"}


async def crowded(stack: Stack, urls: DatabaseUrls) -> tuple[list[str], list[tuple[str, bool]]]:
    """Twenty streams at once on a budget for about half of what they say: what is wrong, and how each one ended."""
    await streamed(stack, BODY | {"max_tokens": 300})
    prompt_nusd = (await amounts(stack))[0] - 300 * OUTPUT_NUSD
    cap_nusd = 20 * prompt_nusd + 20 * 700 * OUTPUT_NUSD
    await stack.closed_holds(1)
    before_nusd = await billed(stack)
    await make_budget(stack.database, stack.organization_id, cap_nusd=cap_nusd)
    async with sampling(urls.owner, every_s=0.02) as samples:
        answers = await asyncio.gather(*(streamed(stack) for _ in range(20)))
        await stack.closed_holds(1 + sum(status == 200 for status, _, _ in answers))
    spend_nusd, suspense_nusd = await spend_and_suspense(urls.owner)
    bill_nusd = await billed(stack)
    covered = ledger_covers_bill(
        bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=True
    )
    problems = [*budgets_are_exact(samples).reasons, *covered.reasons]
    if bill_nusd - before_nusd > cap_nusd:
        problems.append(f"{bill_nusd - before_nusd - cap_nusd} nano-dollars were billed above the cap")
    ends = [(told["finish"], "budget_stop" in told) for status, _, told in answers if status == 200]
    return problems, ends


async def test_many_streams_on_one_budget_never_exceed_it(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with running_stack(
        database_urls, redis_url, tmp_path, token_latency_ms=1, config_dir=sliced_config(tmp_path)
    ) as stack:
        problems, ends = await crowded(stack, database_urls)

    assert problems == []
    assert ("length", True) in ends
    assert set(ends) <= {("stop", False), ("length", True)}


@pytest.mark.control
@pytest.mark.promise("P-1", control=True)
async def test_a_ledger_that_extends_without_holding_is_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    settings = {
        "token_latency_ms": 1,
        "config_dir": sliced_config(tmp_path),
        "build": partial(build_app, opened=_careless),
    }
    async with running_stack(database_urls, redis_url, tmp_path, **settings) as stack:
        problems, _ = await crowded(stack, database_urls)

    assert any("billed above the cap" in one for one in problems)
    assert any("exceeded" in one or "overage" in one for one in problems)


@asynccontextmanager
async def _careless(url: str) -> AsyncGenerator[Ledger]:
    async with open_ledger(url) as ledger:
        yield ExtendsWithoutHoldingLedger(ledger)


@pytest.mark.chaos
@pytest.mark.promise("P-1")
@pytest.mark.timeout(1800)
async def test_sliced_streams_exceed_no_budget_while_gateways_and_postgresql_are_killed(
    tmp_path: Path, noted: dict[str, int]
) -> None:
    async with running_cluster(gateways=3, config_dir=sliced_config(tmp_path)) as cluster:
        [probe] = await storm(cluster, [Call(BODY | {"max_tokens": 256}, HEADERS)], clients=1, seed=0)
        assert probe.status == 200
        [line] = await cluster.bill()
        # Whole answers have about 1,800 tokens: six of ten fit.
        cap_nusd = (line["cost_nusd"] + 1_550 * OUTPUT_NUSD) * STREAMS * 6 // 10
        database = Database(cluster.application_url)
        await make_budget(database, cluster.organization_id, cap_nusd=cap_nusd)
        await database.close()
        faults = {
            0.2: lambda: cluster.kill_gateway(0),
            0.4: lambda: cluster.kill_gateway(1),
            0.5: cluster.kill_postgres,
        }
        async with sampling(cluster.owner_url, every_s=0.1) as samples:
            answers = await storm(
                cluster,
                [Call(BODY, HEADERS)] * STREAMS,
                clients=60,
                seed=SEED,
                faults=faults,
                comes_back=lambda heard: heard.phase == "failed",
            )
            await reap_all(cluster.owner_url, cluster.application_url)
        bill = await cluster.bill()
        bill_nusd = sum(one["cost_nusd"] for one in bill)
        unexplained = reconcile_bill(cluster.owner_url, cluster.application_url, cluster.organization_id, bill)
        spend_nusd, suspense_nusd = await spend_and_suspense(cluster.owner_url)

    covered = ledger_covers_bill(
        bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=True
    )
    outcomes = [Outcome("", answer.phase) for answer in answers]
    verdicts = (budgets_are_exact(samples), both_were_tried(outcomes, at_least=STREAMS // 10), covered)
    stopped = sum(b'"budget_stop":true' in answer.body for answer in answers)
    noted |= {"n": STREAMS, "slices_bill_nusd": bill_nusd, "slices_cap_nusd": cap_nusd, "slices_stopped": stopped}
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []
    assert bill_nusd - line["cost_nusd"] <= cap_nusd
    assert (suspense_nusd, unexplained) == (0, 0)
    assert stopped > 0
