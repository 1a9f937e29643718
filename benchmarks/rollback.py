"""How long a model that turned bad keeps its traffic after the decision: through a gateway under load, on one machine.

    .venv/bin/python benchmarks/rollback.py [ROUNDS]

Every round starts a gateway with callers that ask without a pause, reports harm, lets the rules decide, and measures
from the decision's commit to the last request that the model got. Prints one JSON document.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from auterity_dagster.embedded.postgres import start_postgres  # noqa: E402
from auterity_dagster.embedded.valkey import start_valkey  # noqa: E402
from auterity_dagster.storage.migrate import migrate  # noqa: E402
from tests.conftest import APPLICATION_PASSWORD, DatabaseUrls  # noqa: E402
from tests.fakes.rollback_load import (  # noqa: E402
    HARMFUL,
    SOUND,
    Load,
    answered_by,
    decide,
    report_harm,
    serving_two,
    wait_until_answered_by,
)

CALLERS = 8
LIMIT_S = 5.0


async def measured(urls: DatabaseUrls, redis_url: str, folder: Path) -> dict[str, float]:
    """Return the seconds until the last request of the harmful model, and how many requests there were and failed."""
    async with serving_two(urls, redis_url, folder) as (stack, scope):
        load = Load(stack)
        async with load.running(CALLERS):
            await wait_until_answered_by(scope, HARMFUL)
            await load.is_served_again(100)
            report_harm(scope)
            step = decide(scope)
            decided_at = datetime.now(UTC)
            assert step is not None
            assert step.is_done
            await wait_until_answered_by(scope, SOUND)
            await load.is_served_again(200)
        last = max(await answered_by(scope, HARMFUL))
        return {
            "seconds": max(0.0, (last - decided_at).total_seconds()),
            "requests": len(load.statuses),
            "failed": sum(status != 200 for status in load.statuses),
        }


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="auterity-rollback-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server, redis = start_postgres(folder / "postgres", durable=True), start_valkey(folder / "valkey")
        try:
            for number in range(rounds):
                database = f"round_{number}"
                with psycopg.connect(server.url(), autocommit=True) as connection:
                    connection.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
                migrate(server.url(database), application_password=APPLICATION_PASSWORD)
                urls = DatabaseUrls(
                    owner=server.url(database),
                    application=server.url(database, user="auterity_app", password=APPLICATION_PASSWORD),
                )
                own = folder / database
                own.mkdir()
                found.append(asyncio.run(measured(urls, redis.url, own)))
        finally:
            redis.stop()
            server.stop()
    seconds = [one["seconds"] for one in found]
    document = {
        "rounds": rounds,
        "callers": CALLERS,
        "cores": os.cpu_count(),
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_max": round(max(seconds), 2),
        "requests": sum(int(one["requests"]) for one in found),
        "failed": sum(int(one["failed"]) for one in found),
        "is_held": max(seconds) <= LIMIT_S and not any(one["failed"] for one in found),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
