"""How long a claim takes beside a flat backlog, and how many executions a minute one worker carries.

Run: `python benchmarks/workflows.py`. It starts its own PostgreSQL (fsync on) and prints one JSON object.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from auterity_dagster.embedded.postgres import start_postgres  # noqa: E402
from auterity_dagster.storage.database import BlockingDatabase  # noqa: E402
from auterity_dagster.storage.migrate import migrate  # noqa: E402
from tests.fakes.clock import FakeClock  # noqa: E402
from tests.fakes.workflow_world import Dealership, World, install_workflow, new_dealership  # noqa: E402

PASSWORD = "only-for-benchmarks"
CLAIMS = 40
CARRIED = 200


class Urls:
    def __init__(self, owner: str, application: str) -> None:
        self.owner, self.application = owner, application


def backlog(urls: Urls, state: str, count: int, ready_at: datetime) -> None:
    """Copy the first execution `count` times, spread over 100 organizations."""
    with psycopg.connect(urls.owner) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO execution SELECT md5((n %% 100)::text)::uuid, gen_random_uuid(), e.dealership_id,"
            " e.workflow_id, e.version_id, e.job, e.lane, e.subject, gen_random_uuid()::text, %(state)s, %(ready_at)s,"
            " 0, NULL, e.event, e.variables, NULL, false, e.received_at, e.deadline_at, e.created_at, NULL"
            " FROM (SELECT * FROM execution LIMIT 1) e, generate_series(1, %(count)s) n",
            {"state": state, "ready_at": ready_at, "count": count},
        )


def claim_ms(world: World) -> list[float]:
    """Time claims of 50 against the backlog."""
    engine, taken = world.engine(), []
    for number in range(CLAIMS):
        begun = time.perf_counter()
        claims = engine.claim(job="lead_response", lane="interactive", run_id=str(number))
        taken.append((time.perf_counter() - begun) * 1000)
        assert len(claims) == 50
    return sorted(taken)


def executions_a_minute(world: World, dealership: Dealership) -> float:
    """Carry leads from claim to sent message, with a model and a messenger that cost nothing."""
    for number in range(CARRIED):
        dealership.lead(number)
    begun = time.perf_counter()
    while world.turn():
        pass
    assert len(world.messenger.sent) == CARRIED
    return CARRIED / (time.perf_counter() - begun) * 60


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    folder.chmod(0o755)
    server = start_postgres(folder / "postgres", durable=True)
    try:
        migrate(server.url("postgres"), application_password=PASSWORD)
        urls = Urls(server.url("postgres"), server.url("postgres", user="auterity_app", password=PASSWORD))
        database = BlockingDatabase(urls.application, pool_size=16)
        world = World(database, FakeClock(datetime.now(UTC)))
        dealership = new_dealership(urls, database, world.clock)
        install_workflow(dealership, "lead_response", {"auto_send": True})
        rate = executions_a_minute(world, dealership)
        now = world.clock.now()
        backlog(urls, "succeeded", 100_000, datetime(9999, 12, 31, tzinfo=UTC))
        backlog(urls, "waiting", 90_000, now + timedelta(days=1))
        backlog(urls, "queued", 10_000, now - timedelta(seconds=1))
        with psycopg.connect(urls.owner, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE execution")
        claims = claim_ms(world)
        figures = {
            "executions_a_minute": round(rate),
            "claim_of_50_ms": {"p50": round(statistics.median(claims), 2), "p95": round(claims[-3], 2)},
            "backlog": {"succeeded": 100_000, "waiting": 90_000, "queued": 10_000, "organizations": 100},
            "cores": os.cpu_count(),
        }
        print(json.dumps(figures))
        database.close()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
