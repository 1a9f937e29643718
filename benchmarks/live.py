"""Live events to 500 WebSocket clients of one organization: how late each hears what happened.

Run: `python benchmarks/live.py [clients]`. It starts its own PostgreSQL (fsync on), Redis-compatible server and one API
process; the clients run in this process, on the same cores.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from workflows import percentiles  # noqa: E402

from auterity_dagster.clock import SystemClock  # noqa: E402
from auterity_dagster.embedded.commands import app_command  # noqa: E402
from auterity_dagster.embedded.postgres import free_port, start_postgres  # noqa: E402
from auterity_dagster.embedded.secrets import ensure_secrets  # noqa: E402
from auterity_dagster.embedded.valkey import start_valkey  # noqa: E402
from auterity_dagster.identity.secret_file import read_pepper  # noqa: E402
from auterity_dagster.storage.database import BlockingDatabase  # noqa: E402
from auterity_dagster.storage.migrate import migrate  # noqa: E402
from auterity_dagster.storage.repositories.organizations import create_organization  # noqa: E402
from auterity_dagster.storage.repositories.outbox import announcement  # noqa: E402

PASSWORD = "only-for-benchmarks"
OWNER = "owner@bench.example"
EVENTS = 100
RATES = (1.0, 10.0)
TOPIC = "leads"


@dataclass(frozen=True)
class Stage:
    """A running API with one organization, and its database."""

    url: str
    database: BlockingDatabase
    organization_id: UUID
    api: psutil.Process


@dataclass
class Client:
    """Notes how late each event is, in milliseconds."""

    late_ms: list[float] = field(default_factory=list[float])

    async def follow(self, live: ClientConnection, count: int) -> None:
        while len(self.late_ms) < count:
            frame = json.loads(await live.recv())
            if frame["type"] == "event":
                self.late_ms.append((time.time() - frame["payload"]["sent"]) * 1000)
            elif frame["type"] == "ping":
                await live.send('{"type": "pong"}')


@contextmanager
def stage() -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    folder.chmod(0o755)
    postgres, redis = start_postgres(folder / "postgres", durable=True), start_valkey(folder)
    secrets_dir, port = folder / "secrets", free_port()
    ensure_secrets(secrets_dir)
    migrate(postgres.url("postgres"), application_password=PASSWORD)
    application = postgres.url("postgres", user="auterity_app", password=PASSWORD)
    database = BlockingDatabase(application)
    made = create_organization(
        database, name="Bench", owner_email=OWNER, owner_password=PASSWORD, pepper=read_pepper(secrets_dir),
        clock=SystemClock(),
    )  # fmt: skip
    environment = {
        **os.environ, "AUTERITY_DATABASE_URL": application, "AUTERITY_REDIS_URL": redis.url,
        "AUTERITY_SECRETS_DIR": str(secrets_dir), "AUTERITY_CONFIG_DIR": str(ROOT / "config"),
    }  # fmt: skip
    process = subprocess.Popen(app_command("api", host="127.0.0.1", port=port), cwd=ROOT, env=environment)
    try:
        healthy(f"http://127.0.0.1:{port}")
        yield Stage(f"127.0.0.1:{port}", database, made.organization_id, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)
        database.close()
        redis.stop()
        postgres.stop()


def healthy(address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/healthz", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(address)


async def connected(found: Stage, count: int) -> list[ClientConnection]:
    """Open that many connections, each listening to the topic."""
    async with httpx.AsyncClient(base_url=f"http://{found.url}/api/v1", timeout=60, trust_env=False) as client:
        signed_in = await client.post("/auth/login", json={"email": OWNER, "password": PASSWORD})
        headers = {"authorization": f"Bearer {signed_in.raise_for_status().json()['access_token']}"}
        opened: list[ClientConnection] = []
        for _client in range(count):
            ticket = (await client.post("/ws-tickets", headers=headers)).raise_for_status().json()["ticket"]
            live = await connect(f"ws://{found.url}/api/v1/ws", subprotocols=["automatrix.v1"], compression=None)  # type: ignore[list-item]
            await live.send(json.dumps({"type": "auth", "ticket": ticket}))
            await live.recv()
            await live.send(json.dumps({"type": "sub", "topic": TOPIC}))
            await live.recv()
            opened.append(live)
    return opened


def announce(found: Stage, number: int) -> None:
    with found.database.begin(found.organization_id) as session:
        payload = {"number": number, "sent": time.time()}
        session.execute(
            announcement(
                found.organization_id, topic=TOPIC, kind="lead.received", payload=payload, now=datetime.now(UTC)
            )
        )


async def measured(found: Stage, live: Sequence[ClientConnection], a_second: float) -> dict[str, Any]:
    """How late 100 events are for every client, at this rate."""
    clients = [Client() for _one in live]
    before, begun = found.api.cpu_times(), time.monotonic()
    following = [asyncio.create_task(client.follow(one, EVENTS)) for client, one in zip(clients, live, strict=True)]
    for number in range(EVENTS):
        await asyncio.sleep(max(0.0, begun + number / a_second - time.monotonic()))
        await asyncio.to_thread(announce, found, number)
    await asyncio.gather(*following)
    after = found.api.cpu_times()
    return {
        "events": EVENTS,
        "late_ms": percentiles([one for client in clients for one in client.late_ms]),
        "frames_a_second": round(len(live) * EVENTS / (time.monotonic() - begun)),
        "api_cpu_s": round(after.user + after.system - before.user - before.system, 1),
    }


async def fan_out(found: Stage, count: int) -> dict[str, Any]:
    memory_mb = found.api.memory_info().rss / 1e6
    live = await connected(found, count)
    grown_mb = found.api.memory_info().rss / 1e6 - memory_mb
    figures = {f"{rate:g}_a_second": await measured(found, live, rate) for rate in RATES}
    for one in live:
        await one.close()
    return {"clients": count, "memory_kb_a_client": round(grown_mb * 1000 / count), **figures}


def main(count: int) -> None:
    load = os.getloadavg()[0]
    with stage() as found:
        figures = asyncio.run(fan_out(found, count))
    print(json.dumps({"live": figures, "cores": os.cpu_count(), "load_before": round(load, 1)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
