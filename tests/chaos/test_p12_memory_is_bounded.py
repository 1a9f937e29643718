"""P-12: callers that read nothing cost a bounded amount of memory, are cut off, and take nothing from others."""

import asyncio
import gc
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from auterity_dagster.embedded.postgres import free_port
from auterity_dagster.relaycore.frame_queue import FrameQueue, QueuedBytes
from auterity_dagster.relaycore.relay import Streams
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.serving.relaycore.stalled_callers import CutWhenStalled
from tests.chaos.checkers import Verdict
from tests.chaos.gateway_processes import ROOT
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import NO_BREAKER, written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until
from tests.fakes.raw_provider import RawProvider, answering, chunk, http

GROWTH_MIB = 150
HELD_MIB = 80
"""All queues of a process hold 64 MiB together, and then each a little more."""

OTHERS = 5
STALLED_S = 5.0


@dataclass(frozen=True)
class Size:
    """How many callers read nothing, and the streams that they do not read: so many events of so many bytes."""

    unread: int
    events: int
    event_bytes: int


TEST = Size(unread=50, events=500, event_bytes=8192)
CHAOS = Size(unread=1000, events=3000, event_bytes=256)
NO_DEADLINE = {"connect_s": 10, "first_token_s": 300, "idle_s": 300, "total_s": 600}
"""They are cut for reading nothing, and not because the time is over."""


@dataclass(frozen=True)
class Seen:
    """What the unread streams cost while they were there, what was left of them, and what others lost.

    `held_mib` waits in the queues; 0 where that cannot be seen.
    """

    growth_mib: int
    held_mib: int
    files_left: int
    tasks_left: int
    lost: int


def memory_is_bounded(seen: Seen) -> Verdict:
    reasons: list[str] = []
    if seen.growth_mib > GROWTH_MIB:
        reasons.append(f"memory grew by {seen.growth_mib} MiB")
    if seen.held_mib > HELD_MIB:
        reasons.append(f"the queues held {seen.held_mib} MiB")
    if seen.files_left > 0 or seen.tasks_left > 0:
        reasons.append(f"{seen.files_left} files and {seen.tasks_left} tasks were left")
    if seen.lost:
        reasons.append(f"{seen.lost} other callers lost something")
    return Verdict("P-12", tuple(reasons), {"growth_mib": seen.growth_mib})


class UnboundedQueue(FrameQueue[object]):
    """The control: whatever comes is kept."""

    def _is_full(self) -> bool:
        return False


class CutSoon(CutWhenStalled):
    stalled_s = STALLED_S
    send_buffer_bytes = 4096


def provider_of(size: Size) -> RawProvider:
    """A provider of one long stream, which it sends an event at a time."""
    event = b"data: " + json.dumps(chunk({"content": "x"})).encode()
    event = event.replace(b'"x"', b'"' + b"x" * max(size.event_bytes - len(event), 1) + b'"') + b"\n\n"
    end = b"data: " + json.dumps(chunk({}, finish_reason="stop")).encode() + b"\n\ndata: [DONE]\n\n"
    return RawProvider((b"", http(b"", kind="text/event-stream")), repeated=(event, size.events), end=end)


def request(key: str) -> bytes:
    body = json.dumps({"model": "openai-large", "messages": QUESTION, "max_tokens": 1, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def unread(url: str, key: str, count: int) -> list[socket.socket]:
    """Ask, and read nothing: the smallest buffers that there are fill at once."""
    loop, address, opened = asyncio.get_running_loop(), urlsplit(url), list[socket.socket]()
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        await loop.sock_connect(one, (address.hostname or "", address.port or 0))
        await loop.sock_sendall(one, request(key))
        opened.append(one)
    return opened


async def read_whole(client: httpx.AsyncClient, size: Size) -> bool:
    """Read the stream as anybody does; True if nothing of it was lost."""
    body = {"model": "openai-large", "messages": QUESTION, "max_tokens": 1, "stream": True}
    answer = await client.post("/v1/chat/completions", json=body)
    return answer.text.count("data: ") == size.events + 2 and "[DONE]" in answer.text


async def suffered(
    stack: Stack,
    provider: RawProvider,
    size: Size,
    *,
    process: psutil.Process,
    tasks: Callable[[], int],
    queued: QueuedBytes,
) -> Seen:
    """Let callers come that read nothing; look at memory, at other callers, and at what is left once they are cut."""
    async with stack.http() as client:
        client.timeout = httpx.Timeout(300)
        assert await read_whole(client, size)
        memory, files, tasks_before = memory_mib(process), process.num_fds(), tasks()
        sockets = await unread(stack.gateway_url, stack.key, size.unread)
        await all_stalled(provider, size)
        held = queued.total >> 20
        lost = [await read_whole(client, size) for _ in range(OTHERS)].count(False)
        growth = memory_mib(process) - memory
        for_them = size.unread if process.pid == os.getpid() else 0  # their own ends lie in this process

        async def are_cut() -> bool:
            return process.num_fds() <= files + for_them + OTHERS and tasks() <= tasks_before + OTHERS

        with suppress(TimeoutError):
            await until(are_cut, within_s=120)
        left = process.num_fds() - files - for_them - OTHERS, tasks() - tasks_before - OTHERS
        for one in sockets:
            one.close()
    return Seen(growth, held, *left, lost)


async def all_stalled(provider: RawProvider, size: Size) -> None:
    """Wait until all are there and nothing more is sent to any of them."""
    before = -1

    async def is_still() -> bool:
        nonlocal before
        after, before = before, provider.sent_events
        await asyncio.sleep(0.3)
        return provider.connections > size.unread and after == provider.sent_events

    await until(is_still, within_s=300)


def memory_mib(process: psutil.Process) -> int:
    gc.collect()
    return process.memory_info().rss >> 20


async def in_this_process(urls: DatabaseUrls, redis_url: str, folder: Path, streams: Streams) -> Seen:
    provider, changes = provider_of(TEST), written_config(folder, breaker=NO_BREAKER, deadlines=NO_DEADLINE)
    async with answering(provider) as url:
        changes |= {"sandbox_url": url, "build": partial(build_app, streams=lambda: streams), "http": CutSoon}
        async with running_stack(urls, redis_url, folder, **changes) as stack:
            return await suffered(
                stack,
                provider,
                TEST,
                process=psutil.Process(),
                tasks=lambda: len(asyncio.all_tasks()),
                queued=streams.queued,
            )


# Minutes on a busy machine: the callers are cut off only after their time.
@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_fifty_callers_that_read_nothing_cost_little_and_are_cut_off(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    seen = await in_this_process(database_urls, redis_url, tmp_path, Streams())

    assert memory_is_bounded(seen).reasons == ()


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.control
@pytest.mark.promise("P-12", control=True)
async def test_a_queue_without_bounds_is_found_out(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> None:
    seen = await in_this_process(database_urls, redis_url, tmp_path, Streams(queue=UnboundedQueue))

    assert any("the queues held" in reason for reason in memory_is_bounded(seen).reasons)


@pytest.mark.control
def test_what_is_left_or_lost_is_found() -> None:
    assert memory_is_bounded(Seen(growth_mib=10, held_mib=9, files_left=0, tasks_left=0, lost=0)).is_held
    for broken in (
        Seen(10, 9, 1, 0, 0),
        Seen(10, 9, 0, 1, 0),
        Seen(10, 9, 0, 0, 1),
        Seen(GROWTH_MIB + 1, 9, 0, 0, 0),
        Seen(10, HELD_MIB + 1, 0, 0, 0),
    ):
        assert not memory_is_bounded(broken).is_held


@pytest.mark.chaos
@pytest.mark.promise("P-12")
@pytest.mark.timeout(900)
async def test_a_thousand_callers_that_read_nothing_cost_at_most_150_mib(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, noted: dict[str, int]
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    provider, changes = provider_of(CHAOS), written_config(tmp_path, breaker=NO_BREAKER, deadlines=NO_DEADLINE)
    async with (
        answering(provider) as url,
        running_stack(database_urls, redis_url, tmp_path, sandbox_url=url, config_dir=changes["config_dir"]) as stack,
        gateway_process(database_urls, redis_url, tmp_path, sandbox_url=url) as (address, process),
    ):
        alone = Stack(address, url, stack.sandbox_token, stack.organization_id, stack.key, stack.database)
        seen = await suffered(alone, provider, CHAOS, process=process, tasks=process.num_threads, queued=QueuedBytes())

    verdict = memory_is_bounded(seen)
    noted |= {"n": CHAOS.unread, **verdict.numbers}
    assert verdict.reasons == ()


@asynccontextmanager
async def gateway_process(
    urls: DatabaseUrls, redis_url: str, folder: Path, *, sandbox_url: str
) -> AsyncGenerator[tuple[str, psutil.Process]]:
    """The gateway's own server as a process of its own, so that its memory is nobody else's."""
    port = free_port()
    environment = os.environ | {
        "AUTERITY_DATABASE_URL": urls.application,
        "AUTERITY_REDIS_URL": redis_url,
        "AUTERITY_SECRETS_DIR": str(folder / "secrets"),
        "AUTERITY_CONFIG_DIR": str(folder / "config"),
        "AUTERITY_SANDBOX_URL": sandbox_url,
        "AUTERITY_MODEL_SERVER_URL": "http://127.0.0.1:9",
        "AUTERITY_GATEWAY_PLACES": "4000",
        "AUTERITY_GATEWAY_DRAIN_S": "1",
    }
    command = [sys.executable, "-m", "auterity_dagster.serving.relaycore.process", "--port", str(port)]
    started = subprocess.Popen(command, cwd=ROOT, env=environment)  # noqa: ASYNC220 - returns at once
    address = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(verify=False) as client:

            async def is_healthy() -> bool:
                try:
                    return (await client.get(f"{address}/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_healthy, within_s=90)
        yield address, psutil.Process(started.pid)
    finally:
        started.terminate()
        await asyncio.to_thread(started.wait, 60)
