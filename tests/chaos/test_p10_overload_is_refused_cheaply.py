"""P-10: ten times what fits; the rest is refused at once, and who asks little is not kept waiting."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from auterity_dagster.relaycore.shedding import Places
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.storage.database import BlockingDatabase
from tests.chaos.checkers import Verdict
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, new_organization, running_stack

PLACES = 4
SERVICE_S = 1.0
"""What the provider takes: so four calls a second fit, and the cores are idle."""

QUIET_EVERY_S = 2.0

LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Size:
    """Offered calls a second, as a multiple of what fits, from its beginning to its end; and for how long.

    A call may be seen `late_s` later than promised: the load generator shares the cores, and so do other tests.
    """

    first: float
    last: float
    seconds: float
    late_s: float = 5.0


TEST = Size(first=10, last=10, seconds=8)
CHAOS = Size(first=0.5, last=10, seconds=120, late_s=1.0)


@dataclass(frozen=True)
class Call:
    """Who called, how it ended, how long it took, and whether it was told when to come back."""

    is_quiet: bool
    status: int
    took_s: float
    may_come_back: bool


class UnboundedPlaces(Places):
    """The control: whoever finds no place waits for one, however long."""

    def _is_worth_waiting(self, organization_id: UUID) -> bool:
        return True


@dataclass(frozen=True)
class Flood:
    """What became of the calls, and how long this process, gateway and load generator in one, could not run at worst.

    What another process takes from the cores is no fault of the gateway's.
    """

    calls: Sequence[Call]
    size: Size
    stood_still_s: float


def overload_is_refused(flood: Flood) -> Verdict:
    """Work that fits is done, the rest is refused quickly and told to come back, and a quiet caller notices nothing."""
    calls, seconds, late_s = flood.calls, flood.size.seconds, flood.size.late_s + 2 * flood.stood_still_s
    answered = [call for call in calls if call.status == 200]
    refused = sorted(call.took_s for call in calls if call.status == 503)
    quiet = [call for call in calls if call.is_quiet]
    wanted = 0.8 * PLACES / SERVICE_S * seconds
    reasons: list[str] = []
    if len(answered) < wanted:
        reasons.append(f"{len(answered)} calls were answered, at least {wanted:.0f} fit")
    if len(refused) < len(calls) // 3:
        reasons.append(f"only {len(refused)} of {len(calls)} calls were refused")
    if refused and refused[int(len(refused) * 0.99)] > 0.1 + late_s:
        reasons.append(f"a refusal took {refused[-1]:.1f} s")
    if any(call.status != 200 or call.took_s > 1.2 * SERVICE_S + late_s for call in quiet):
        reasons.append("a quiet organization was refused or kept waiting")
    if any(call.status not in (200, 503) for call in calls):
        reasons.append("a call ended in something else")
    if not all(call.may_come_back for call in calls if call.status == 503):
        reasons.append("a refusal did not say when to come back")
    numbers = {"answered": len(answered), "refused": len(refused), "quiet": len(quiet)}
    return Verdict("P-10", tuple(reasons), numbers)


async def called(client: httpx.AsyncClient, key: str, calls: list[Call], *, is_quiet: bool) -> None:
    begun_s = time.monotonic()
    body = {"model": "sandbox-small", "messages": QUESTION, "max_tokens": 4}
    try:
        answer = await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    except httpx.TimeoutException:
        calls.append(Call(is_quiet, 0, time.monotonic() - begun_s, may_come_back=False))
        return
    took_s = time.monotonic() - begun_s
    calls.append(Call(is_quiet, answer.status_code, took_s, may_come_back="retry-after" in answer.headers))


async def watch_for_stillness(longest_s: list[float]) -> None:
    """Note the longest time that this process did not come to run, until cancelled."""
    while True:
        asked_s = time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)
        longest_s[0] = max(longest_s[0], time.monotonic() - asked_s - LOOK_EVERY_S)


async def flooded(
    urls: DatabaseUrls, redis_url: str, folder: Path, size: Size, *, places: type[Places] = Places
) -> Flood:
    """One organization floods the gateway; another one calls now and then."""
    stood_still_s = [0.0]
    calls: list[Call] = []
    build = partial(build_app, places=places)
    async with running_stack(urls, redis_url, folder, build=build, gateway_places=PLACES) as stack:
        blocking = BlockingDatabase(urls.application)
        _, quiet_key = new_organization(blocking, folder / "secrets", name="quiet")
        blocking.close()
        await stack.set_faults({"fault": "slow", "delay_s": SERVICE_S})
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=stack.gateway_url, timeout=30, limits=limits) as client:
            for key in (stack.key, quiet_key):  # what is read once is read before
                await called(client, key, [], is_quiet=False)
            watching = asyncio.create_task(watch_for_stillness(stood_still_s))
            async with asyncio.TaskGroup() as group:
                begun_s, seconds, quiet_s = time.monotonic(), 0.0, 0.0
                while seconds < size.seconds:
                    group.create_task(called(client, stack.key, calls, is_quiet=False))
                    if seconds >= quiet_s:
                        quiet_s += QUIET_EVERY_S
                        group.create_task(called(client, quiet_key, calls, is_quiet=True))
                    factor = size.first + (size.last - size.first) * seconds / size.seconds
                    seconds += SERVICE_S / PLACES / factor
                    await asyncio.sleep(max(begun_s + seconds - time.monotonic(), 0))
            watching.cancel()
    return Flood(calls, size, stood_still_s[0])


async def test_ten_times_what_fits_is_refused_and_what_fits_is_done(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    flood = await flooded(database_urls, redis_url, tmp_path, TEST)

    verdict = overload_is_refused(flood)
    record_property(verdict.promise, dict(verdict.numbers))
    assert verdict.reasons == ()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_overload_is_refused_at_chaos_size(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, record_property
) -> None:
    flood = await flooded(database_urls, redis_url, tmp_path, CHAOS)

    verdict = overload_is_refused(flood)
    record_property(verdict.promise, dict(verdict.numbers))
    assert verdict.reasons == ()


@pytest.mark.chaos
@pytest.mark.control
async def test_a_queue_without_bounds_is_found_out(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> None:
    size = Size(first=10, last=10, seconds=3)

    flood = await flooded(database_urls, redis_url, tmp_path, size, places=partial(UnboundedPlaces, wait_s=3600))  # type: ignore[arg-type]

    assert not overload_is_refused(flood).is_held
