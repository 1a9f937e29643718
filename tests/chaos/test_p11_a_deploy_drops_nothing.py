"""P-11: gateways are replaced one after the other under load, and every call gets an answer with an end."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from auterity_dagster.storage.tables.ledger import HoldRow
from tests.chaos.checkers import Verdict, ledger_covers_bill
from tests.chaos.ledger_samples import spend_and_suspense
from tests.chaos.rolling_gateways import PROGRAM, RollingGateways, rolling_gateways
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until

LONG = {"model": "sandbox-small", "messages": QUESTION, "max_tokens": 64}
DROPPED = ("refused", "broken off", "without an end")


@dataclass
class Calls:
    """How each call ended, and its hold."""

    ended: Counter[str] = field(default_factory=Counter[str])
    holds: Counter[str] = field(default_factory=Counter[str])

    async def one(self, client: httpx.AsyncClient, *, is_streamed: bool) -> None:
        try:
            answer = await client.post("/v1/chat/completions", json=LONG | {"stream": is_streamed})
        except httpx.ConnectError:
            self.ended["refused"] += 1
        except httpx.TransportError:
            self.ended["broken off"] += 1
        else:
            self.ended[how_it_ended(answer, is_streamed=is_streamed)] += 1


def how_it_ended(answer: httpx.Response, *, is_streamed: bool) -> str:
    if answer.status_code != 200:
        is_typed = answer.headers["content-type"] == "application/json"
        return answer.json()["error"]["code"] if is_typed else "broken off"
    if not is_streamed:
        return "answered"
    if "data: [DONE]" in answer.text:
        return "answered"
    return "draining" if '"draining"' in answer.text else "without an end"


def nothing_is_dropped(ended: Counter[str], *, at_least: int) -> Verdict:
    """No call was refused by the network, broken off or left without an end; most were answered."""
    reasons = [f"{ended[how]} calls: {how}" for how in DROPPED if ended[how]]
    if ended["answered"] < at_least:
        reasons.append(f"only {ended['answered']} calls were answered")
    return Verdict("P-11", tuple(reasons), dict(ended))


@asynccontextmanager
async def under_load(address: str, key: str, calls: Calls, *, per_second: float) -> AsyncGenerator[None]:
    """Call at a steady pace, each on a connection of its own, every third one as a stream; wait for the last."""
    limits = httpx.Limits(max_keepalive_connections=0, max_connections=None)
    headers = {"authorization": f"Bearer {key}"}
    is_over = False

    async def pace(group: asyncio.TaskGroup) -> None:
        begun_s, number = time.monotonic(), 0
        while not is_over:
            group.create_task(calls.one(client, is_streamed=number % 3 == 0))
            number += 1
            await asyncio.sleep(max(begun_s + number / per_second - time.monotonic(), 0))

    async with (
        httpx.AsyncClient(base_url=address, headers=headers, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(pace(group))
        yield
        is_over = True


async def rolled(gateways: RollingGateways, *, times: int) -> None:
    """Replace every gateway so many times, the new one first."""
    for _ in range(times * len(gateways.running)):
        await gateways.start()
        await gateways.end_oldest()


async def judge_rolling(
    stack: Stack, urls: DatabaseUrls, redis_url: str, folder: Path, *, count: int, times: int, per_second: float
) -> list[Verdict]:
    calls = Calls()
    running = rolling_gateways(count, urls=urls, redis_url=redis_url, folder=folder, sandbox_url=stack.sandbox_url)
    async with running as gateways, under_load(gateways.address, stack.key, calls, per_second=per_second):
        await rolled(gateways, times=times)
    await stack.closed_holds(1)
    bill_nusd = sum(line["cost_nusd"] for line in await stack.bill())
    spend_nusd, suspense_nusd = await spend_and_suspense(urls.owner)
    return [
        nothing_is_dropped(calls.ended, at_least=20),
        ledger_covers_bill(
            bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=suspense_nusd, is_settled=suspense_nusd == 0
        ),
    ]


@pytest.mark.slow
async def test_gateways_are_replaced_under_load_and_no_call_is_dropped(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path, token_latency_ms=10) as stack:
        verdicts = await judge_rolling(stack, database_urls, redis_url, tmp_path, count=1, times=2, per_second=10)

    for verdict in verdicts:
        record_property(verdict.promise, dict(verdict.numbers))
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_a_deploy_drops_nothing_at_chaos_size(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path, token_latency_ms=10) as stack:
        verdicts = await judge_rolling(stack, database_urls, redis_url, tmp_path, count=3, times=10, per_second=60)

    for verdict in verdicts:
        record_property(verdict.promise, dict(verdict.numbers))
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []


async def ended_early(urls: DatabaseUrls, redis_url: str, folder: Path, *, program: tuple[str, ...] = PROGRAM) -> Calls:
    """A stream and a whole answer that would take half a minute, and a process with one second to finish."""
    calls = Calls()
    async with running_stack(urls, redis_url, folder, token_latency_ms=500) as stack:
        gateways = rolling_gateways(
            1,
            urls=urls,
            redis_url=redis_url,
            folder=folder,
            sandbox_url=stack.sandbox_url,
            program=program,
            AUTERITY_GATEWAY_DRAIN_S="1",
        )
        headers = {"authorization": f"Bearer {stack.key}"}
        async with (
            gateways as running,
            httpx.AsyncClient(base_url=running.address, headers=headers, timeout=90) as client,
            asyncio.TaskGroup() as group,
        ):
            for is_streamed in (True, False):
                group.create_task(calls.one(client, is_streamed=is_streamed))
            await until(lambda: are_held(stack, 2), within_s=60)
            await asyncio.sleep(1)  # the stream's first words
            await running.end_oldest()
        calls.holds = Counter(hold.state for hold in await stack.closed_holds(2))
    return calls


async def are_held(stack: Stack, count: int) -> bool:
    async with stack.database.begin(stack.organization_id) as session:
        return await session.scalar(select(func.count()).select_from(HoldRow)) == count


async def test_calls_that_outlast_the_process_are_told_so_and_their_money_is_booked(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    calls = await ended_early(database_urls, redis_url, tmp_path)

    assert calls.ended == {"draining": 2}
    assert calls.holds == {"unknown": 2}


@pytest.mark.chaos
@pytest.mark.control
async def test_a_server_that_tells_its_streams_nothing_is_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    bare = ("-m", "uvicorn", "--factory", "auterity_dagster.serving.relaycore.app:create_app")
    program = (sys.executable, *bare, "--timeout-graceful-shutdown", "1")

    calls = await ended_early(database_urls, redis_url, tmp_path, program=program)

    assert not nothing_is_dropped(calls.ended, at_least=0).is_held
