"""Live events: a client that reconnects misses nothing, sees only its own organization's, and only what it may."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvicorn
import websockets
from redis.asyncio import Redis
from sqlalchemy import delete, insert
from websockets.asyncio.client import ClientConnection, connect

from auterity_dagster.identity.permission import Role
from auterity_dagster.serving.live_events import RETENTION, LiveEvents, LiveTimes
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import outbox_relay
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.tables.workflows import OutboxRow
from tests.serving.conftest import Api, with_state

CLIENTS, EVENTS = 10, 100


@dataclass
class Served:
    """A second process of the API, on a socket: its own live events beside those of the `api` fixture."""

    api: Api
    url: str
    live: LiveEvents

    @asynccontextmanager
    async def connection(self, client: Any = None) -> AsyncIterator[ClientConnection]:
        issued = await (client or self.api.owner).post("/api/v1/ws-tickets", json={})
        # A client that stops reading must still be able to close: nothing is left unread in the library's own queue.
        async with connect(f"{self.url}/api/v1/ws", subprotocols=["automatrix.v1"], max_queue=None) as live:  # type: ignore[list-item]
            await live.send(json.dumps({"type": "auth", "ticket": issued.json()["ticket"]}))
            assert await frame(live) == {"type": "ready"}
            yield live


@asynccontextmanager
async def serve(api: Api, redis: Redis) -> AsyncIterator[Served]:
    state = api.state
    live = LiveEvents(state.database, redis, pepper=state.pepper, clock=api.clock, times=LiveTimes())
    shared = {"api": state, "authentication": state.authentication, "live": live}
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(with_state(api.app, shared), lifespan="off", log_level="error"))
    async with live.running():
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield Served(api, f"ws://127.0.0.1:{listening.getsockname()[1]}", live)
        server.should_exit = True
        await serving


@pytest.fixture
async def served(api: Api) -> AsyncIterator[Served]:
    async with serve(api, api.state.redis) as served:
        yield served


async def frame(live: ClientConnection) -> dict[str, Any]:
    return json.loads(await live.recv())


async def subscribe(live: ClientConnection, topic: str, *, after: int | None = None) -> dict[str, Any]:
    wanted = {"type": "sub", "topic": topic} | ({} if after is None else {"after": after})
    await live.send(json.dumps(wanted))
    return await frame(live)


async def announce(database: Database, organization_id: UUID, number: int, **payload: Any) -> None:
    async with database.begin(organization_id) as session:
        told = {"number": number, **payload}
        await session.execute(
            announcement(organization_id, topic="leads", kind="lead.received", payload=told, now=datetime.now(UTC))
        )


def missed(sent: Sequence[int], received: Sequence[int]) -> list[int]:
    """The checker: what a client never saw."""
    return sorted(set(sent) - set(received))


async def follow(served: Served, seed: int) -> tuple[list[int], list[int]]:
    """Read a few events, lose the connection, come back with the last position, until all were seen."""
    chance, numbers, positions = random.Random(seed), list[int](), [0]
    while len(numbers) < EVENTS:
        async with served.connection() as live:
            await subscribe(live, "leads", after=positions[-1])
            for _ in range(chance.randrange(1, 30)):
                if len(numbers) >= EVENTS:
                    break
                event = await frame(live)
                numbers.append(event["payload"]["number"])
                positions.append(event["position"])
    return numbers, positions


async def test_clients_that_reconnect_again_and_again_miss_nothing_and_see_nothing_twice(served: Served) -> None:
    database, organization_id = served.api.state.database, served.api.organization_id

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(follow(served, seed)) for seed in range(CLIENTS)]
        for start in range(0, EVENTS, 10):
            await asyncio.gather(*(announce(database, organization_id, start + step) for step in range(10)))

    for reader in readers:
        numbers, positions = reader.result()
        assert missed(range(EVENTS), numbers) == []
        assert len(numbers) == EVENTS
        assert positions == sorted(set(positions))


async def test_a_row_that_commits_late_is_numbered_late(database: Database, api: Api) -> None:
    received = list[int]()

    async def read_on(cursor: int) -> int:
        async with database.begin(api.organization_id) as session:
            await outbox_relay.number(session)
        async with database.begin(api.organization_id) as session:
            events = await outbox_relay.after(session, {"leads": cursor}, limit=10)
        received.extend(event.payload["number"] for event in events)
        return events[-1].position if events else cursor

    async with database.begin(api.organization_id) as slow:
        now = datetime.now(UTC)
        await slow.execute(announcement(api.organization_id, topic="leads", kind="x", payload={"number": 1}, now=now))
        await announce(database, api.organization_id, 2)
        cursor = await read_on(0)
    await read_on(cursor)

    assert missed([1, 2], received) == []


async def test_the_checker_finds_what_numbers_taken_inside_the_transaction_lose(database: Database, api: Api) -> None:
    """The negative control: the same two writers, each with its number before it commits."""
    received = list[int]()

    def numbered(position: int) -> Any:
        return insert(OutboxRow).values(
            organization_id=api.organization_id, id=uuid4(), topic="leads", type="x", payload={"number": position},
            position=position, created_at=datetime.now(UTC),
        )  # fmt: skip

    async def read_on(cursor: int) -> int:
        async with database.begin(api.organization_id) as session:
            events = await outbox_relay.after(session, {"leads": cursor}, limit=10)
        received.extend(event.payload["number"] for event in events)
        return events[-1].position if events else cursor

    async with database.begin(api.organization_id) as slow:
        await slow.execute(numbered(1))
        async with database.begin(api.organization_id) as fast:
            await fast.execute(numbered(2))
        cursor = await read_on(0)
    await read_on(cursor)

    assert missed([1, 2], received) == [1]


async def test_events_flow_while_redis_is_down(api: Api) -> None:
    nobody = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=1)

    async with serve(api, nobody) as served, served.connection() as live:
        await subscribe(live, "leads")
        await announce(api.state.database, api.organization_id, 7)

        assert (await frame(live))["payload"] == {"number": 7}


async def test_a_cursor_older_than_what_is_stored_gets_a_gap(served: Served) -> None:
    database, organization_id = served.api.state.database, served.api.organization_id
    async with database.begin(organization_id) as session:
        for number in range(3):
            await session.execute(
                announcement(
                    organization_id, topic="leads", kind="x", payload={"number": number},
                    now=datetime.now(UTC) - (RETENTION + timedelta(days=1)) * (number < 2),
                )
            )  # fmt: skip
    await served.live.relay()
    await served.live.prune()

    async with served.connection() as live:
        told = await subscribe(live, "leads", after=0)

        assert told == {"type": "subd", "topic": "leads", "head": 3}
        assert await frame(live) == {"type": "gap", "topic": "leads", "from": 1, "to": 2}
        assert (await frame(live))["payload"] == {"number": 2}


async def test_a_position_is_never_given_twice_even_when_every_row_is_gone(api: Api, database: Database) -> None:
    async def head_after_announcing(number: int) -> int:
        await announce(database, api.organization_id, number)
        while True:
            async with database.begin(api.organization_id) as session:
                head = await outbox_relay.number(session)
                await session.execute(delete(OutboxRow).where(OutboxRow.position.is_not(None)))
            if head is not None:
                return head

    assert [await head_after_announcing(number) for number in range(3)] == [1, 2, 3]


async def test_a_foreign_organization_and_a_foreign_dealership_are_not_heard(served: Served) -> None:
    api, ours, other = served.api, uuid4(), uuid4()
    member = api.member(Role.STAFF, dealership_ids=frozenset({ours}))

    async with served.connection(member) as live, served.connection(api.foreigner) as foreign:
        await subscribe(live, "leads")
        await subscribe(foreign, "leads")
        await announce(api.state.database, api.organization_id, 1, dealership_id=str(other))
        await announce(api.state.database, api.organization_id, 2, dealership_id=str(ours))
        await announce(api.state.database, api.foreign_organization_id, 3)

        assert (await frame(live))["payload"]["number"] == 2
        assert (await frame(foreign))["payload"]["number"] == 3


async def test_a_topic_needs_its_permission_and_must_exist(served: Served) -> None:
    async with served.connection(served.api.member(Role.AUDITOR)) as live:
        assert (await subscribe(live, "leads"))["code"] == "not_permitted"
        assert (await subscribe(live, "secrets"))["code"] == "unknown_topic"
        assert (await subscribe(live, "executions"))["type"] == "subd"


async def test_a_ticket_opens_one_connection_within_thirty_seconds(served: Served) -> None:
    api = served.api

    async def answer(ticket: str) -> str | int:
        async with connect(f"{served.url}/api/v1/ws", subprotocols=["automatrix.v1"]) as live:  # type: ignore[list-item]
            await live.send(json.dumps({"type": "auth", "ticket": ticket}))
            try:
                return str((await frame(live))["type"])
            except websockets.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd is not None else 0

    used = (await api.owner.post("/api/v1/ws-tickets", json={})).json()["ticket"]
    late = (await api.owner.post("/api/v1/ws-tickets", json={})).json()["ticket"]

    assert [await answer(used), await answer(used)] == ["ready", 4401]
    api.clock.advance(31)
    assert [await answer(late), await answer("nonsense")] == [4401, 4401]


async def test_a_page_of_another_origin_opens_nothing(served: Served) -> None:
    with pytest.raises(websockets.InvalidStatus):
        async with connect(f"{served.url}/api/v1/ws", origin="https://evil.example"):  # type: ignore[arg-type]
            pass


async def test_a_frame_that_is_none_is_answered_and_a_huge_one_closes(served: Served) -> None:
    async with served.connection() as live:
        await live.send("{}")
        assert (await frame(live))["code"] == "invalid_frame"
        await live.send("x" * (16 * 1024 + 1))
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await frame(live)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
