"""The load generator: keep-alive connections on bare sockets, closed loop for saturation, open loop for latency.

Open loop means that requests are due at fixed times whether or not earlier ones are answered, and that the wait for a
free connection counts: a gateway that stalls cannot hide it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools
import orjson

from benchmarks.gateway_run.provider import EVENTS, WORD

FIRST_WORD = WORD.encode()
BUDGET_S = 60.0


@dataclass(frozen=True)
class Target:
    """Where a call goes and what it looks like there. `pids` are the processes whose CPU is counted."""

    name: str
    port: int
    path: str
    headers: dict[str, str]
    body: dict[str, object]
    pids: tuple[int, ...] = ()
    note: str = ""

    def request(self, *, is_stream: bool) -> bytes:
        body = orjson.dumps(self.body | ({"stream": True} if is_stream else {}))
        lines = [f"POST {self.path} HTTP/1.1", f"host: 127.0.0.1:{self.port}", "content-type: application/json"]
        lines += [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Taken:
    """What a run saw: seconds per answer, seconds to the first word, and how many words arrived."""

    answer_s: list[float] = field(default_factory=list[float])
    first_word_s: list[float] = field(default_factory=list[float])
    words: int = 0
    failures: list[str] = field(default_factory=list[str])
    wall_s: float = 0.0


class _Connection(asyncio.Protocol):
    """One keep-alive connection; `done` is called when an answer is complete."""

    def __init__(self, taken: Taken, done: Callable[["_Connection"], None]) -> None:
        self._taken, self._done = taken, done
        self._begun_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self, request: bytes, *, due_s: float) -> None:
        self._begun_s, self._body, self._has_word = due_s, b"", False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._has_word and FIRST_WORD in body:
            self._has_word = True
            self._taken.first_word_s.append(time.perf_counter() - self._begun_s)
        self._body += body

    def on_message_complete(self) -> None:
        self._taken.answer_s.append(time.perf_counter() - self._begun_s)
        words = self._body.count(FIRST_WORD)
        self._taken.words += words
        if self._parser.get_status_code() != 200 or words != EVENTS:
            self._taken.failures.append(f"{self._parser.get_status_code()} {self._body[:200]!r}")
        self._done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._taken.failures.append(f"connection lost: {type(exc).__name__}")

    def close(self) -> None:
        self._transport.close()


async def saturated(target: Target, *, clients: int, seconds: float, is_stream: bool = False) -> Taken:
    """Send from so many clients, each its next request when its last one is answered."""
    request, taken = target.request(is_stream=is_stream), Taken()
    began_s = time.perf_counter()
    ends_s, running = began_s + seconds, clients
    finished = asyncio.get_running_loop().create_future()

    def next_one(connection: _Connection) -> None:
        nonlocal running
        now_s = time.perf_counter()
        if now_s < ends_s:
            connection.ask(request, due_s=now_s)
            return
        connection.close()
        running -= 1
        if not running:
            finished.set_result(None)

    connections = [await _connect(target, taken, next_one) for _ in range(clients)]
    for connection in connections:
        connection.ask(request, due_s=time.perf_counter())
    async with asyncio.timeout(seconds + BUDGET_S):
        await finished
    taken.wall_s = time.perf_counter() - began_s
    return taken


async def steady(target: Target, *, per_s: float, seconds: float, clients: int = 64, is_stream: bool = False) -> Taken:
    """Send at a fixed rate; an answer's time counts from when its request was due."""
    request, taken, loop = target.request(is_stream=is_stream), Taken(), asyncio.get_running_loop()
    waiting: deque[float] = deque()
    free: list[_Connection] = []
    total = max(int(per_s * seconds), 20)
    finished = loop.create_future()

    def freed(connection: _Connection) -> None:
        if waiting:
            connection.ask(request, due_s=waiting.popleft())
        else:
            free.append(connection)
        if len(taken.answer_s) == total and not finished.done():
            finished.set_result(None)

    free += [await _connect(target, taken, freed) for _ in range(clients)]
    everyone = list(free)
    began_s = time.perf_counter()
    for index in range(total):
        due_s = began_s + index / per_s
        if (ahead_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(ahead_s)
        if free:
            free.pop().ask(request, due_s=due_s)
        else:
            waiting.append(due_s)
    async with asyncio.timeout(seconds + BUDGET_S):
        await finished
    taken.wall_s = time.perf_counter() - began_s
    for connection in everyone:
        connection.close()
    return taken


async def _connect(target: Target, taken: Taken, done: Callable[[_Connection], None]) -> _Connection:
    make = lambda: _Connection(taken, done)  # noqa: E731
    _, connection = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", target.port)
    return connection
