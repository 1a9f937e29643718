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
PAUSE_S = 0.25
"""Half of what a caller waits on average before it comes back."""

Fault = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a run: its body and the headers it carries beside the key."""

    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a caller heard at its last try: a status and its bytes, or None where the connection was lost."""

    call: Call
    status: int | None
    body: bytes = b""
    tries: int = 1

    @property
    def phase(self) -> str:
        return PHASES.get(self.status or 0, "failed")


async def storm(
    cluster: Cluster,
    calls: list[Call],
    *,
    clients: int,
    seed: int,
    faults: Mapping[float, Fault] | None = None,
    comes_back: Callable[[Answered], bool] = lambda _: False,
) -> list[Answered]:
    """Make all calls, each client the next one as soon as its last is answered; faults come at their share of them.

    A caller tries the same call again while `comes_back` says so of what it heard: a dead process uses up no calls.
    """
    answers: list[Answered] = []
    chance, waiting = random.Random(seed), iter(calls)
    due = sorted((share * len(calls), fault) for share, fault in (faults or {}).items())
    headers = {"authorization": f"Bearer {cluster.key}", "content-type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)

    async def tried(session: aiohttp.ClientSession, call: Call, number: int) -> Answered:
        address = chance.choice(cluster.addresses)
        try:
            async with session.post(
                f"{address}/v1/chat/completions", data=orjson.dumps(call.body), headers=call.headers
            ) as response:
                return Answered(call, response.status, await response.read(), number)
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(0.05)
            return Answered(call, None, tries=number)

    async def client(session: aiohttp.ClientSession) -> None:
        for call in waiting:
            answered = await tried(session, call, 1)
            while comes_back(answered):
                await asyncio.sleep(PAUSE_S * (1 + chance.random()))
                answered = await tried(session, call, answered.tries + 1)
            answers.append(answered)

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
