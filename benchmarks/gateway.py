"""What the gateway adds to a call: its latency against the same call sent to the sandbox directly, in one run.

Usage: python benchmarks/gateway.py [--calls 400] [--clients 16]. Everything is real: PostgreSQL with fsync on, one
gateway process, one sandbox process, three budgets in force. Client, gateway, sandbox and PostgreSQL share the
machine's cores, so the ratio is what compares runs, and the rate is a lower bound.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))

from auterity_dagster.embedded.postgres import free_port, start_postgres
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.migrate import migrate
from auterity_dagster.storage.repositories.budgets import NewBudget, create_budget
from tests.fakes.gateway_stack import new_organization

ROOT = Path(__file__).parents[1]
BODY = {"model": "sandbox-small", "max_tokens": 64, "messages": [{"role": "user", "content": "Is the blue one there?"}]}
SCOPES = (Scope.ORGANIZATION, Scope.KEY, Scope.PURPOSE)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--clients", type=int, default=16)
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    folder.chmod(0o755)  # noqa: ASYNC240 - nothing runs yet
    server = start_postgres(folder / "postgres")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        migrate(server.url(), application_password="only-for-this-run")
        url = server.url(user="auterity_app", password="only-for-this-run")
        ensure_secrets(folder / "secrets")
        blocking = BlockingDatabase(url)
        organization_id, key = new_organization(blocking, folder / "secrets")
        blocking.close()
        database = Database(url)
        async with database.begin(organization_id) as session:
            for scope in SCOPES:
                budget = NewBudget(scope.value, scope, "*", Period.MONTH, "UTC", 10**15, Enforcement.HARD)
                await create_budget(session, organization_id, budget)
        await database.close()
        sandbox, gateway = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        environment = os.environ | {
            "AUTERITY_DATABASE_URL": url,
            "AUTERITY_REDIS_URL": "redis://127.0.0.1:1",
            "AUTERITY_SECRETS_DIR": str(folder / "secrets"),
            "AUTERITY_DATA_DIR": str(folder),
            "AUTERITY_CONFIG_DIR": str(ROOT / "config"),
            "AUTERITY_SANDBOX_URL": sandbox,
            "AUTERITY_SANDBOX_TOKEN_LATENCY_MS": "0",
        }
        for name, address in (("sandbox", sandbox), ("relaycore", gateway)):
            app = f"auterity_dagster.serving.{name}.app:create_app"
            command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", address.rsplit(":", 1)[1]]
            command += ["--log-level", "warning", "--no-access-log"]
            processes.append(subprocess.Popen(command, env=environment, cwd=ROOT))  # noqa: ASYNC220
        token = (folder / "secrets" / "sandbox_token").read_text()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            for address in (sandbox, gateway):
                await healthy(http, address)
            report: dict[str, object] = {"calls": wanted.calls, "clients": wanted.clients, "cores": os.cpu_count()}
            for label, clients in (("one_client", 1), ("loaded", wanted.clients)):
                for target, credential in ((sandbox, token), (gateway, key)):  # warm both up
                    await measured(http, target, credential, calls=40, clients=clients)
                direct = await measured(http, sandbox, token, calls=wanted.calls, clients=clients)
                through = await measured(http, gateway, key, calls=wanted.calls, clients=clients)
                added = {name: round(through[name] - direct[name], 2) for name in ("p50_ms", "p99_ms")}
                ratio = round(through["p50_ms"] / direct["p50_ms"], 2)
                report[label] = {"direct": direct, "gateway": through, "added": added, "ratio_p50": ratio}
        print(json.dumps(report, indent=1))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)
        server.stop()
        shutil.rmtree(folder)


async def measured(
    http: aiohttp.ClientSession, address: str, credential: str, *, calls: int, clients: int
) -> dict[str, float]:
    """Send calls from so many clients, each its next one when its last one is answered."""
    took: list[float] = []
    left = iter(range(calls))
    headers = {"authorization": f"Bearer {credential}"}

    async def client() -> None:
        for _ in left:
            began = time.perf_counter()
            async with http.post(f"{address}/v1/chat/completions", json=BODY, headers=headers) as response:
                await response.read()
                assert response.status == 200, await response.text()
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    quantiles = statistics.quantiles(took, n=100)
    return {
        "p50_ms": round(quantiles[49], 2),
        "p99_ms": round(quantiles[98], 2),
        "requests_per_s": round(calls / (time.perf_counter() - began), 1),
    }


async def healthy(http: aiohttp.ClientSession, address: str) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                async with http.get(f"{address}/healthz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
