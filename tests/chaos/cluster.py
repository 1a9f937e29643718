"""Everything a gateway needs as processes of its own, that can be killed and come back where they were."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psycopg

from auterity_dagster.embedded.postgres import PostgresServer, free_port, start_postgres
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.embedded.unprivileged import ownership, server_identity
from auterity_dagster.embedded.valkey import ValkeyServer, start_valkey, valkey_command, valkey_configuration
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.migrate import migrate
from tests.fakes.gateway_stack import new_organization

ROOT = Path(__file__).parents[2]
PASSWORD = "only-for-tests"
GATEWAY = "auterity_dagster.serving.relaycore.app:create_app"
CONTROL = "tests.chaos.gateway_control:create_app"
SANDBOX = "auterity_dagster.serving.sandbox.app:create_app"


@dataclass(slots=True)
class Cluster:
    """The processes, and how each is started; `control` names a broken ledger for the gateways, "" the real one."""

    folder: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    control: str
    organization_id: UUID
    key: str
    config_dir: Path = ROOT / "config"
    sandbox_port: int = field(default_factory=free_port)
    gateways: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    sandbox: subprocess.Popen[bytes] | None = None

    @property
    def owner_url(self) -> str:
        return self.postgres.url()

    @property
    def application_url(self) -> str:
        return self.postgres.url(user="auterity_app", password=PASSWORD)

    @property
    def addresses(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.gateways]

    def start(self, *, gateways: int) -> None:
        """Start the sandbox and the gateways."""
        self.sandbox = self._uvicorn(SANDBOX, self.sandbox_port)
        for port in [free_port() for _ in range(gateways)]:
            self.gateways[port] = self._uvicorn(CONTROL if self.control else GATEWAY, port)

    async def is_up(self) -> None:
        """Wait until all of them are healthy."""
        for port in (self.sandbox_port, *self.gateways):
            await healthy(f"http://127.0.0.1:{port}")

    async def kill_gateway(self, index: int) -> None:
        """End one in the middle of whatever it does; another takes its place."""
        port = list(self.gateways)[index]
        self.gateways[port].kill()
        await asyncio.to_thread(self.gateways[port].wait)
        self.gateways[port] = self._uvicorn(CONTROL if self.control else GATEWAY, port)

    async def kill_valkey(self) -> None:
        """End it with everything it remembers; an empty one takes its place."""
        self.valkey.process.kill()
        await asyncio.to_thread(self.valkey.process.wait)
        address = urlsplit(self.valkey.url)
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            valkey_command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/", **ownership(server_identity())
        )
        assert process.stdin is not None
        process.stdin.write(valkey_configuration(address.port or 0, address.password or ""))
        process.stdin.close()
        self.valkey = ValkeyServer(process, self.valkey.url)

    async def kill_postgres(self) -> None:
        """End its first process, as a crash does; it comes back on what was synced to disk."""
        self.postgres.process.kill()
        await asyncio.to_thread(self.postgres.process.wait)
        async with asyncio.timeout(60):
            while not await self._postgres_came_back():  # noqa: ASYNC110 - another process makes it true
                await asyncio.sleep(0.2)

    async def bill(self) -> list[dict]:
        """What the provider billed, line by line."""
        headers = {"authorization": f"Bearer {(self.folder / 'secrets' / 'sandbox_token').read_text()}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            answer = await client.get(f"http://127.0.0.1:{self.sandbox_port}/bill", params={"lines": True})
        return answer.json()["lines"]

    def stop(self) -> None:
        """End what this cluster started, and nothing else."""
        for process in (*self.gateways.values(), self.sandbox):
            if process is not None:
                process.kill()
                process.wait()
        self.valkey.process.kill()
        self.valkey.process.wait()
        self.postgres.stop()

    async def _postgres_came_back(self) -> bool:
        """Try once: the dead server's children must have gone before a new one may have their memory."""
        with (self.folder / "postgres.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                self.postgres.cluster.command(self.postgres.port, durable=True),
                **ownership(self.postgres.cluster.identity),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        while process.poll() is None:
            try:
                await (await psycopg.AsyncConnection.connect(self.owner_url, connect_timeout=5)).close()
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)
            else:
                self.postgres = PostgresServer(self.postgres.cluster, process, self.postgres.port)
                return True
        return False

    def _uvicorn(self, app: str, port: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "AUTERITY_DATABASE_URL": self.application_url,
            "AUTERITY_REDIS_URL": self.valkey.url,
            "AUTERITY_SECRETS_DIR": str(self.folder / "secrets"),
            "AUTERITY_CONFIG_DIR": str(self.config_dir),
            "AUTERITY_DATA_DIR": str(self.folder),
            "AUTERITY_SANDBOX_URL": f"http://127.0.0.1:{self.sandbox_port}",
            "AUTERITY_MODEL_SERVER_URL": "http://127.0.0.1:9",
            "AUTERITY_SANDBOX_TOKEN_LATENCY_MS": "1",
            "AUTERITY_CONTROL": self.control,
            "OPENAI_API_KEY": "",
            "ANTHROPIC_API_KEY": "",
        }
        command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), "--log-level", "error"]
        with (self.folder / f"{port}.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


@asynccontextmanager
async def running_cluster(
    *, gateways: int, control: str = "", config_dir: Path = ROOT / "config"
) -> AsyncGenerator[Cluster]:
    """A cluster in a folder of its own, gone afterwards; its PostgreSQL syncs to disk, so it may be killed."""
    folder = Path(tempfile.mkdtemp(prefix="auterity-chaos-"))
    try:
        cluster = await asyncio.to_thread(_prepared, folder, control, config_dir)
        try:
            cluster.start(gateways=gateways)
            await cluster.is_up()
            yield cluster
        finally:
            cluster.stop()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def _prepared(folder: Path, control: str, config_dir: Path) -> Cluster:
    """Start the servers and make an organization."""
    folder.chmod(0o755)
    postgres, valkey = start_postgres(folder / "postgres"), start_valkey(folder)
    migrate(postgres.url(), application_password=PASSWORD)
    ensure_secrets(folder / "secrets")
    blocking = BlockingDatabase(postgres.url(user="auterity_app", password=PASSWORD))
    organization_id, key = new_organization(blocking, folder / "secrets")
    blocking.close()
    return Cluster(folder, postgres, valkey, control, organization_id, key, config_dir)


async def healthy(address: str) -> None:
    """Wait until a process answers its health probe."""
    async with httpx.AsyncClient() as client, asyncio.timeout(120):
        while True:
            try:
                if (await client.get(f"{address}/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
