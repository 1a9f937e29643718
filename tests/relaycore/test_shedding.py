"""Places: a bounded number of calls at once, a short wait, and no organization that keeps another one out."""

import asyncio
from uuid import UUID, uuid4

import pytest

from auterity_dagster.errors import Unavailable
from auterity_dagster.relaycore.shedding import Places

NOISY, QUIET = uuid4(), uuid4()


async def refused(places: Places, organization_id: UUID) -> bool:
    try:
        await places.take(organization_id)
    except Unavailable as error:
        return (error.code, error.details["retry_after_s"]) == ("overloaded", 1)
    return False


async def test_a_call_waits_for_a_place_that_becomes_free() -> None:
    places = Places(1, wait_s=30)
    await places.take(NOISY)

    waiting = asyncio.create_task(places.take(NOISY))
    await asyncio.sleep(0)
    places.give_back(NOISY, held_s=0.01)

    await waiting
    assert places.active == 1


async def test_a_call_waits_no_longer_than_the_wait_and_leaves_no_trace() -> None:
    places = Places(1, wait_s=0.01)
    await places.take(NOISY)

    assert await refused(places, NOISY)

    places.give_back(NOISY, held_s=0.0)
    await places.take(NOISY)
    assert places.active == 1


async def test_a_call_that_cannot_expect_a_place_in_time_is_refused_at_once() -> None:
    places = Places(1, wait_s=30)
    await places.take(NOISY)
    places.give_back(NOISY, held_s=1_000.0)
    await places.take(NOISY)

    async with asyncio.timeout(10):  # far below the wait
        assert await refused(places, NOISY)


async def test_a_caller_that_leaves_while_it_waits_takes_no_place() -> None:
    places = Places(1, wait_s=30)
    await places.take(NOISY)
    waiting = asyncio.create_task(places.take(NOISY))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    places.give_back(NOISY, held_s=0.0)

    assert places.active == 0


async def test_the_last_places_are_kept_for_organizations_below_their_share() -> None:
    places = Places(8, wait_s=0.001)
    await places.take(QUIET)
    places.give_back(QUIET, held_s=0.0)

    admitted = [not await refused(places, NOISY) for _ in range(8)]

    assert admitted.count(True) == 7
    await places.take(QUIET)


async def test_one_organization_alone_may_have_every_place() -> None:
    places = Places(8, wait_s=0.001)

    assert not any([await refused(places, NOISY) for _ in range(8)])


async def test_a_free_place_goes_to_the_organization_with_the_fewest() -> None:
    places = Places(2, wait_s=30)
    others = [uuid4(), uuid4()]
    await places.take(NOISY)
    await places.take(others[0])
    order: list[UUID] = []

    async def take(organization_id: UUID) -> None:
        await places.take(organization_id)
        order.append(organization_id)

    tasks = [asyncio.create_task(take(one)) for one in (NOISY, others[1])]
    await asyncio.sleep(0)
    places.give_back(others[0], held_s=0.0)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    assert order == [others[1]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("count", [1, 4, 100])
async def test_places_are_never_more_than_there_are_and_come_back(count: int) -> None:
    places, most = Places(count, wait_s=0.02), 0

    async def call(number: int) -> None:
        nonlocal most
        organization_id = (NOISY, QUIET)[number % 10 == 0]
        try:
            await places.take(organization_id)
        except Unavailable:
            return
        most = max(most, places.active)
        await asyncio.sleep(0.001 * (number % 5))
        places.give_back(organization_id, held_s=0.001)

    await asyncio.gather(*(call(number) for number in range(400)))

    assert 0 < most <= count
    assert places.active == 0
