"""Several gateway processes over one database, under one load."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from auterity_dagster.embedded.postgres import free_port
from tests.conftest import DatabaseUrls

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def gateway_processes(
    count: int, *, urls: DatabaseUrls, redis_url: str, secrets_dir: Path, sandbox_url: str, app: str
) -> AsyncGenerator[list[str]]:
    """Start gateways with uvicorn, wait until they are healthy, yield their addresses, and stop them."""
    ports = [free_port() for _ in range(count)]
    environment = {
        **os.environ,
        "AUTERITY_DATABASE_URL": urls.application,
        "AUTERITY_REDIS_URL": redis_url,
        "AUTERITY_SECRETS_DIR": str(secrets_dir),
        "AUTERITY_CONFIG_DIR": str(ROOT / "config"),
        "AUTERITY_SANDBOX_URL": sandbox_url,
        "AUTERITY_MODEL_SERVER_URL": "http://127.0.0.1:9",
        "OPENAI_API_KEY": "",
        "ANTHROPIC_API_KEY": "",
    }
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 - returns at once
            [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), "--log-level", "warning"],
            cwd=ROOT,
            env=environment,
        )
        for port in ports
    ]
    try:
        addresses = [f"http://127.0.0.1:{port}" for port in ports]
        for address in addresses:
            await _healthy(address)
        yield addresses
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            await asyncio.to_thread(process.wait, 60)


async def _healthy(address: str) -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(90):
        while True:
            try:
                if (await client.get(f"{address}/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
