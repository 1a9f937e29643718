"""Many callers on a cluster, and faults at set shares of their calls."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
import orjson

from tests.chaos.cluster import Cluster

QUESTION = [{"role": "user", "content": "Is the blue one still there?"}]
PHASES = {200: "admitted", 402: "refused"}

Fault = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a run: its body and the headers it carries beside the key."""

    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a caller heard: a status and its bytes, or None where the connection was lost."""

    call: Call
    status: int | None
    body: bytes = b""

    @property
    def phase(self) -> str:
        return PHASES.get(self.status or 0, "failed")


async def storm(
    cluster: Cluster, calls: list[Call], *, clients: int, seed: int, faults: Mapping[float, Fault] | None = None
) -> list[Answered]:
    """Make all calls, each client the next one as soon as its last is answered; faults come at their share of them."""
    answers: list[Answered] = []
    chance, waiting = random.Random(seed), iter(calls)
    due = sorted((share * len(calls), fault) for share, fault in (faults or {}).items())
    headers = {"authorization": f"Bearer {cluster.key}", "content-type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)

    async def client(session: aiohttp.ClientSession) -> None:
        for call in waiting:
            address = chance.choice(cluster.addresses)
            try:
                async with session.post(
                    f"{address}/v1/chat/completions", data=orjson.dumps(call.body), headers=call.headers
                ) as response:
                    answers.append(Answered(call, response.status, await response.read()))
            except (aiohttp.ClientError, TimeoutError, OSError):
                answers.append(Answered(call, None))
                await asyncio.sleep(0.05)

    async def breaking() -> None:
        for at, fault in due:
            while len(answers) < at:  # noqa: ASYNC110 - many clients make it true
                await asyncio.sleep(0.02)
            await fault()

    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(breaking())
        for _ in range(clients):
            group.create_task(client(session))
    return answers
