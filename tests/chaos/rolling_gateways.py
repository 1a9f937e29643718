"""Gateways behind one listening socket that the test holds, replaced one after the other under load."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg

from tests.chaos.gateway_processes import ROOT
from tests.conftest import DatabaseUrls

PROGRAM = (sys.executable, "-m", "auterity_dagster.serving.relaycore.process")
STARTED_WITHIN_S = 120.0
ENDED_WITHIN_S = 90.0


class RollingGateways:
    """Processes of one program over one socket; `address` is where they answer."""

    def __init__(self, program: Sequence[str], environment: Mapping[str, str]) -> None:
        self._program, self._environment = program, environment
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(1024)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.running: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        """Start one more and wait until it lives: a pipe says so, for the address is everybody's."""
        before = await _beats(self._environment["AUTERITY_DATABASE_URL"])
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            [*self._program, "--fd", str(self._socket.fileno())],
            cwd=ROOT,
            env={**os.environ, **self._environment},
            pass_fds=[self._socket.fileno()],
        )
        self.running.append(process)
        async with asyncio.timeout(STARTED_WITHIN_S):
            while await _beats(self._environment["AUTERITY_DATABASE_URL"]) <= before:
                assert process.poll() is None, "a gateway did not start"
                await asyncio.sleep(0.1)
            await _answers(self.address)

    async def end_oldest(self) -> int:
        """Ask the oldest to end; return its exit status."""
        process = self.running.pop(0)
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, ENDED_WITHIN_S)

    async def close(self) -> None:
        """End all that is left."""
        while self.running:
            await self.end_oldest()
        self._socket.close()


@asynccontextmanager
async def rolling_gateways(
    count: int,
    *,
    urls: DatabaseUrls,
    redis_url: str,
    folder: Path,
    sandbox_url: str,
    program: Sequence[str] = PROGRAM,
    **more: str,
) -> AsyncGenerator[RollingGateways]:
    """Start `count` gateways; at the end all are ended."""
    environment = {
        "AUTERITY_DATABASE_URL": urls.application,
        "AUTERITY_REDIS_URL": redis_url,
        "AUTERITY_SECRETS_DIR": str(folder / "secrets"),
        "AUTERITY_CONFIG_DIR": str(ROOT / "config"),
        "AUTERITY_SANDBOX_URL": sandbox_url,
        "AUTERITY_MODEL_SERVER_URL": "http://127.0.0.1:9",
        "OPENAI_API_KEY": "",
        "ANTHROPIC_API_KEY": "",
        **more,
    }
    gateways = RollingGateways(program, environment)
    try:
        for _ in range(count):
            await gateways.start()
        yield gateways
    finally:
        await gateways.close()


async def _beats(database_url: str) -> int:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        row = await (await connection.execute("SELECT count(*) FROM gateway_process")).fetchone()
    assert row is not None
    return row[0]


async def _answers(address: str) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{address}/readyz", timeout=STARTED_WITHIN_S)).status_code == 200
