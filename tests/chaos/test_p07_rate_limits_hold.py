"""P-7: three processes, one with its clock 90 s ahead, admit together what the limit allows, with Redis and without."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.chaos.fault_proxy import FaultProxy, fault_proxy
from tests.chaos.ledger_processes import ROOT
from tests.chaos.limit_checkers import limit_is_kept
from tests.chaos.limit_worker import Orders
from tests.conftest import DatabaseUrls

PER_MINUTE = 600
OFFERED_PER_SECOND = 100
"""Ten times the limit's rate."""


@dataclass(frozen=True)
class Size:
    """Seconds with Redis, without it, and with it again."""

    before_s: float
    outage_s: float
    after_s: float


TEST = Size(before_s=10, outage_s=3, after_s=2)
CHAOS = Size(before_s=120, outage_s=30, after_s=30)


async def admitted(
    urls: DatabaseUrls, redis_url: str, folder: Path, size: Size, *, variant: str
) -> tuple[list[float], tuple[float, float]]:
    """Run three processes; return when they admitted, and when Redis was away."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(fault_proxy(urlsplit(redis_url).port or 6379))
        through = redis_url.replace(f":{urlsplit(redis_url).port}", f":{proxy.port}")
        organization_id = str(uuid4())
        workers = [
            await started(
                Orders(
                    variant=variant,
                    database_url=urls.application,
                    redis_url=through,
                    organization_id=organization_id,
                    limit=PER_MINUTE,
                    per_second=OFFERED_PER_SECOND / 3,
                    seconds=size.before_s + size.outage_s + size.after_s,
                    clock_ahead_s=90.0 * (number == 0),
                    history=str(folder / f"{variant}{number}"),
                )
            )
            for number in range(3)
        ]
        await begun(workers)
        outage = await away(proxy, size)
        codes = await asyncio.gather(*(worker.wait() for worker in workers))
        assert codes == [0, 0, 0]
    lines = [line for number in range(3) for line in (folder / f"{variant}{number}").read_text().splitlines()]
    return [float(line.split()[0]) for line in lines], outage


async def started(orders: Orders) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.limit_worker",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
    return worker


async def begun(workers: Sequence[asyncio.subprocess.Process]) -> None:
    """Let all begin together once each is ready."""
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"\n")
        await worker.stdin.drain()


async def away(proxy: FaultProxy, size: Size) -> tuple[float, float]:
    """Take Redis away for a while in the middle."""
    await asyncio.sleep(size.before_s)
    begun_s = time.monotonic()
    await proxy.die()
    await asyncio.sleep(size.outage_s)
    await proxy.listen()
    return begun_s, time.monotonic()


async def test_three_processes_admit_together_what_the_limit_allows(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    instants, outage = await admitted(database_urls, redis_url, tmp_path, TEST, variant="shared")

    verdict = limit_is_kept(instants, per_minute=PER_MINUTE, losses=1, outage=outage)
    record_property(verdict.promise, dict(verdict.numbers))
    assert verdict.reasons == ()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_rate_limits_hold_at_chaos_size(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    instants, outage = await admitted(database_urls, redis_url, tmp_path, CHAOS, variant="shared")

    verdict = limit_is_kept(instants, per_minute=PER_MINUTE, losses=1, outage=outage)
    record_property(verdict.promise, dict(verdict.numbers))
    assert verdict.reasons == ()


@pytest.mark.chaos
@pytest.mark.control
async def test_processes_that_each_grant_the_full_limit_are_found_out(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    size = Size(before_s=10, outage_s=0, after_s=3)

    instants, outage = await admitted(database_urls, redis_url, tmp_path, size, variant="alone")

    assert not limit_is_kept(instants, per_minute=PER_MINUTE, losses=0, outage=outage).is_held


class TestTheCheckerOnPlantedHistories:
    def test_a_burst_and_then_the_rate_is_kept(self) -> None:
        instants = [0.0] * 60 + [float(second) for second in range(1, 30)]

        assert limit_is_kept(instants, per_minute=60, losses=0, outage=(5, 10)).is_held

    def test_two_bursts_are_found(self) -> None:
        instants = [0.0] * 60 + [20.0] * 60

        assert not limit_is_kept(instants, per_minute=60, losses=0, late_s=0, outage=(0, 1)).is_held

    def test_an_outage_that_shuts_everybody_out_is_found(self) -> None:
        assert not limit_is_kept([0.0], per_minute=60, losses=0, outage=(5, 15)).is_held
