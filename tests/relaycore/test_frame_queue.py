"""The queue between a provider and a caller: bounded by frames and bytes, closed without leaving anybody waiting."""

import asyncio

import pytest

from auterity_dagster.relaycore import frame_queue
from auterity_dagster.relaycore.frame_queue import FrameQueue, QueuedBytes


async def test_items_come_in_order_and_the_bytes_are_counted() -> None:
    queued = QueuedBytes()
    queue: FrameQueue[int] = FrameQueue(queued)
    for number in range(3):
        assert await queue.offer(number, size=10, within_s=1)

    assert queued.total == 3 * (10 + frame_queue.ITEM_BYTES)
    assert [await queue.get(within_s=1) for _ in range(3)] == [0, 1, 2]
    assert queued.total == 0


@pytest.mark.parametrize(
    ("size", "room"), [(1, frame_queue.MAX_FRAMES), (64 * 1024, frame_queue.MAX_BYTES // (64 * 1024))]
)
async def test_a_full_queue_stops_whoever_fills_it(size: int, room: int) -> None:
    queue: FrameQueue[int] = FrameQueue(QueuedBytes())
    for number in range(room):
        assert await queue.offer(number, size=size, within_s=1)

    offering = asyncio.create_task(queue.offer(room, size=size, within_s=30))
    await asyncio.sleep(0)
    assert not offering.done()
    await queue.get(within_s=1)

    assert await offering


async def test_who_waits_too_long_for_room_is_told() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuedBytes())
    for number in range(frame_queue.MAX_FRAMES):
        await queue.offer(number, size=0, within_s=1)

    assert not await queue.offer(0, size=0, within_s=0.001)


async def test_when_all_queues_together_are_full_each_may_hold_only_a_little() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuedBytes(total=frame_queue.MAX_PROCESS_BYTES))

    assert await queue.offer(0, size=frame_queue.SMALL_BYTES, within_s=1)
    assert not await queue.offer(1, size=1, within_s=0.001)


async def test_a_closed_queue_holds_its_last_item_and_nothing_else() -> None:
    queued = QueuedBytes()
    queue: FrameQueue[str] = FrameQueue(queued)
    await queue.offer("dropped", size=7, within_s=1)
    queue.close("last")

    assert not await queue.offer("late", size=4, within_s=1)
    assert (await queue.get(within_s=1), queued.total) == ("last", 0)


async def test_closing_wakes_whoever_waits_for_room_or_for_an_item() -> None:
    full: FrameQueue[int] = FrameQueue(QueuedBytes())
    for number in range(frame_queue.MAX_FRAMES):
        await full.offer(number, size=0, within_s=1)
    empty: FrameQueue[int] = FrameQueue(QueuedBytes())
    offering = asyncio.create_task(full.offer(0, size=0, within_s=30))
    getting = asyncio.create_task(empty.get(within_s=30))
    await asyncio.sleep(0)

    full.close()
    empty.close(9)

    assert not await offering
    assert await getting == 9


async def test_a_getter_gives_up_after_its_time_and_the_next_one_is_served() -> None:
    queue: FrameQueue[int] = FrameQueue(QueuedBytes())
    with pytest.raises(TimeoutError):
        await queue.get(within_s=0.001)

    await queue.offer(1, size=0, within_s=1)

    assert await queue.get(within_s=1) == 1


async def test_a_reader_that_empties_a_full_queue_in_one_go_still_gets_what_was_waiting_for_room() -> None:
    queue = FrameQueue[int](QueuedBytes())
    for number in range(frame_queue.MAX_FRAMES):
        await queue.offer(number, size=1, within_s=1)
    waiting = asyncio.create_task(queue.offer(-1, size=1, within_s=5))
    await asyncio.sleep(0)

    taken = [await queue.get(within_s=None) for _ in range(frame_queue.MAX_FRAMES)]

    assert taken == list(range(frame_queue.MAX_FRAMES))
    assert await queue.get(within_s=5) == -1
    assert await waiting
