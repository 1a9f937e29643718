"""P-8: whatever a provider does, a call ends by its deadline, nobody storms it, and all is well soon after it is."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import func, select

from auterity_dagster.relaycore.retrying import RetryBudget
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.storage.tables.ledger import HoldRow
from tests.chaos.checkers import Verdict
from tests.chaos.fault_proxy import FaultProxy, fault_proxy
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack

DEADLINE_S = 3.0
FIRST_TOKEN_S = 1.0
OPEN_S = 0.5
LATE_S = 2.0
"""How much later than its deadline a call may be seen to end here: client, gateway and provider share the cores."""

MANY_ACTIVE = ("blackhole", "slow")
"""Faults under which more than 15 calls are active: there the retry budget's share is what counts."""


@dataclass(frozen=True)
class Size:
    """Calls a second, for so many seconds a fault, and so many calls after it healed."""

    per_second: float
    seconds: float
    after: int


TEST = Size(per_second=25, seconds=2, after=20)
CHAOS = Size(per_second=60, seconds=45, after=300)


@dataclass(frozen=True)
class Outage:
    """What happened under one fault."""

    fault: str
    took_s: Sequence[float]
    attempts: int
    well_after: int
    asked_after: int


class NoRetryBudget(RetryBudget):
    """The control: every call may be tried again."""

    def take(self) -> bool:
        super().take()
        return True


def deadlines_hold(outages: Sequence[Outage]) -> Verdict:
    """Every call ends by its deadline, attempts stay below 1.2 a call, and after healing calls succeed."""
    reasons: list[str] = []
    numbers: dict[str, int] = {}
    for one in outages:
        slowest_s, calls = max(one.took_s), len(one.took_s)
        numbers[f"{one.fault}_attempts_percent"] = round(100 * one.attempts / calls)
        if slowest_s > DEADLINE_S + LATE_S:
            reasons.append(f"{one.fault}: a call took {slowest_s:.1f} s")
        # A few attempts more than the share: the smallest budget is three at once.
        if one.fault in MANY_ACTIVE and one.attempts > 1.2 * calls + 3:
            reasons.append(f"{one.fault}: {one.attempts} attempts for {calls} calls")
        if one.well_after < 0.99 * one.asked_after:
            reasons.append(f"{one.fault}: {one.well_after} of {one.asked_after} calls succeeded after it healed")
    return Verdict("P-8", tuple(reasons), numbers)


async def begin(fault: str, stack: Stack, proxy: FaultProxy) -> None:
    if fault == "refuse":
        await proxy.die()
    elif fault == "reset":
        proxy.cut_answers()
    else:
        await stack.set_faults({"fault": fault, "delay_s": 30 if fault == "slow" else 0.2, "retry_after_s": 30})


async def heal(stack: Stack, proxy: FaultProxy) -> None:
    await stack.set_faults()
    proxy.heal()
    await proxy.die()
    await proxy.listen()
    await asyncio.sleep(3 * OPEN_S)


async def attempts(stack: Stack) -> int:
    async with stack.database.begin(stack.organization_id) as session:
        return await session.scalar(select(func.count()).select_from(HoldRow)) or 0


async def asked(client: httpx.AsyncClient) -> tuple[float, bool]:
    """Return how long a call took, and whether it was answered as a whole."""
    begun_s = time.monotonic()
    body = {"model": "auto", "messages": QUESTION, "max_tokens": 8, "stream": True}
    answer = await client.post("/v1/chat/completions", json=body, headers={"x-auterity-task": "openai"})
    return time.monotonic() - begun_s, answer.status_code == 200 and "[DONE]" in answer.text


async def suffered(fault: str, stack: Stack, proxy: FaultProxy, client: httpx.AsyncClient, size: Size) -> Outage:
    before = await attempts(stack)
    await begin(fault, stack, proxy)
    calls: list[asyncio.Task[tuple[float, bool]]] = []
    async with asyncio.TaskGroup() as group:
        begun_s = time.monotonic()
        for number in range(int(size.per_second * size.seconds)):
            await asyncio.sleep(max(begun_s + number / size.per_second - time.monotonic(), 0))
            calls.append(group.create_task(asked(client)))
    made = await attempts(stack) - before
    await heal(stack, proxy)
    after = [(await asked(client))[1] for _ in range(size.after)]
    return Outage(fault, [call.result()[0] for call in calls], made, after.count(True), len(after))


async def outages(
    urls: DatabaseUrls,
    redis_url: str,
    folder: Path,
    size: Size,
    *,
    faults: Sequence[str],
    retries: Callable[[], RetryBudget] = RetryBudget,
) -> list[Outage]:
    """Let a gateway with two deployments of one provider suffer fault after fault."""
    deadlines = {"connect_s": 0.5, "first_token_s": FIRST_TOKEN_S, "idle_s": 1, "total_s": DEADLINE_S}
    settings = written_config(folder, deadlines=deadlines, breaker={"open_s": OPEN_S})
    async with fault_proxy(0) as proxy:

        def through_proxy(sandbox_url: str) -> str:
            proxy.aim(urlsplit(sandbox_url).port or 0)
            return f"http://127.0.0.1:{proxy.port}"

        changes = settings | {"sandbox_url": through_proxy, "build": partial(build_app, retries=retries)}
        async with (
            running_stack(urls, redis_url, folder, **changes) as stack,
            stack.http() as client,
        ):
            client.timeout = httpx.Timeout(60)
            assert (await asked(client))[1]
            return [await suffered(fault, stack, proxy, client, size) for fault in faults]


FAULTS = ("refuse", "blackhole", "slow", "rate_limit", "error_500", "trickle", "reset")


async def test_dead_and_slow_providers_cost_at_most_the_deadline(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    found = await outages(database_urls, redis_url, tmp_path, TEST, faults=FAULTS)

    verdict = deadlines_hold(found)
    record_property(verdict.promise, dict(verdict.numbers))
    assert verdict.reasons == ()


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_deadlines_hold_at_chaos_size(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    found = await outages(database_urls, redis_url, tmp_path, CHAOS, faults=FAULTS)

    verdict = deadlines_hold(found)
    record_property(verdict.promise, dict(verdict.numbers))
    assert verdict.reasons == ()


@pytest.mark.chaos
@pytest.mark.control
async def test_a_gateway_without_a_retry_budget_is_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    found = await outages(database_urls, redis_url, tmp_path, TEST, faults=["slow"], retries=NoRetryBudget)

    assert not deadlines_hold(found).is_held
