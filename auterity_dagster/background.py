"""Background work of asyncio processes: it runs beside something, and ends for certain when that ends."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

ASK_AGAIN_S = 1.0


@asynccontextmanager
async def running_beside(*works: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run these until the block ends; one that fails ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        try:
            yield
        finally:
            await end_tasks(tasks)


async def end_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel these and wait until each has ended; what they raise stays with them.

    One cancellation is not enough: until Python 3.12, `asyncio.wait_for` loses one that comes in the turn of the loop
    in which its wait is over, and redis sends every command through it. So they are asked until they end.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN_S)
