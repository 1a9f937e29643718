"""RelayCore for a run, everything on: PostgreSQL with fsync, Redis, an organization, a key, limits and hard budgets."""

import sys
from contextlib import ExitStack
from pathlib import Path

from auterity_dagster.embedded.ports import free_port
from auterity_dagster.embedded.postgres import start_postgres
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.embedded.valkey import start_valkey
from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.relaycore.rate_limit import LARGEST_LIMIT, RateLimit
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.migrate import migrate
from auterity_dagster.storage.repositories.budgets import NewBudget, create_budget
from auterity_dagster.storage.repositories.rate_limits import put_rate_limit
from benchmarks.gateway_run.load import Target
from benchmarks.gateway_run.processes import ROOT, Machine, healthy, start
from tests.fakes.gateway_stack import new_organization

SCOPES = (Scope.ORGANIZATION, Scope.KEY, Scope.PURPOSE, Scope.DEPLOYMENT)
MESSAGES = [
    {"role": "system", "content": "You answer the customers of a car dealership, kindly, in at most three sentences."},
    {"role": "user", "content": "Is the blue one still there, and can I see it on Saturday morning?"},
]
PASSWORD = "only-for-this-run"


async def start_relaycore(stack: ExitStack, folder: Path, *, provider_url: str, machine: Machine) -> Target:
    """Start it and return where its calls go: `model` is auto, so that rules and choice run for every call."""
    server = start_postgres(folder / "postgres")
    stack.callback(server.stop)
    machine.pin(server.process.pid, is_gateway=False)
    redis = start_valkey(folder / "valkey")
    stack.callback(redis.stop)
    machine.pin(redis.process.pid, is_gateway=False)
    migrate(server.url(), application_password=PASSWORD)
    url = server.url(user="auterity_app", password=PASSWORD)
    ensure_secrets(folder / "secrets")
    key = await _organization(url, folder / "secrets")
    port = free_port()
    environment = {
        "AUTERITY_DATABASE_URL": url,
        "AUTERITY_REDIS_URL": redis.url,
        "AUTERITY_SECRETS_DIR": str(folder / "secrets"),
        "AUTERITY_DATA_DIR": str(folder),
        "AUTERITY_CONFIG_DIR": str(ROOT / "config"),
        "AUTERITY_OPENAI_BASE_URL": f"{provider_url}/v1",
        "AUTERITY_SANDBOX_URL": provider_url,
        "OPENAI_API_KEY": "bench",
    }
    command = [sys.executable, "-m", "auterity_dagster.serving.relaycore.process", "--port", str(port)]
    pid = start(stack, command, machine=machine, is_gateway=True, environment=environment, log=folder / "relaycore.log")
    await healthy(f"http://127.0.0.1:{port}/healthz")
    return Target(
        name="RelayCore",
        port=port,
        path="/v1/chat/completions",
        headers={"authorization": f"Bearer {key}", "x-auterity-task": "lead_reply"},
        body={"model": "auto", "max_tokens": 256, "messages": MESSAGES},
        pids=(pid,),
        note=f"key, rate limit, {len(SCOPES)} hard budgets, choice over the shipped policy, request and usage log",
    )


async def _organization(url: str, secrets: Path) -> str:
    blocking = BlockingDatabase(url)
    organization_id, key = new_organization(blocking, secrets)
    blocking.close()
    database = Database(url)
    async with database.begin(organization_id) as session:
        for scope in SCOPES:
            budget = NewBudget(scope.value, scope, "*", Period.MONTH, "UTC", 10**15, Enforcement.HARD)
            await create_budget(session, organization_id, budget)
        await put_rate_limit(session, RateLimit("organization", organization_id, LARGEST_LIMIT, LARGEST_LIMIT))
    await database.close()
    return key
