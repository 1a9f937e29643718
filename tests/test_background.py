"""Background work ends when what it runs beside ends, whatever it does with a cancellation."""

import asyncio
from collections.abc import Callable

import pytest

from auterity_dagster import background
from auterity_dagster.background import end_tasks, running_beside


async def loses_cancellations(count: int, ended: Callable[[], None]) -> None:
    lost = 0
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            lost += 1
            if lost > count:
                ended()
                raise


@pytest.fixture(autouse=True)
def _asks_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "ASK_AGAIN_S", 0.01)


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_work_that_loses_cancellations_ends_nevertheless(count: int) -> None:
    ended: list[bool] = []

    async with asyncio.timeout(10), running_beside(loses_cancellations(count, lambda: ended.append(True))):
        await asyncio.sleep(0)

    assert ended == [True]


async def test_one_cancellation_alone_would_leave_it_running() -> None:
    task = asyncio.create_task(loses_cancellations(1, lambda: None))
    await asyncio.sleep(0)

    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.1)

    assert not done
    await end_tasks([task])
    assert task.cancelled()


async def test_an_error_in_the_block_is_not_lost() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with running_beside(loses_cancellations(1, lambda: None)):
            raise ValueError("the block's own")

    assert isinstance(raised.value.exceptions[0], ValueError)


async def test_work_that_fails_ends_the_block() -> None:
    async def fails() -> None:
        raise ValueError("the work's own")

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(10), running_beside(fails()):
            await asyncio.sleep(3600)

    assert isinstance(raised.value.exceptions[0], ValueError)
