"""What the engine of workflows carries: claims beside a backlog, ten steps a minute, waiting ones, a flood.

Run: `python benchmarks/workflows.py [claims] [ten_steps] [waiting] [flood]`. It starts its own PostgreSQL (fsync on)
and prints one JSON object a part.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import psutil
import psycopg

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from workflow_location import KEY, ten_steps  # noqa: E402

from auterity_dagster.embedded.postgres import start_postgres  # noqa: E402
from auterity_dagster.jobs.automatrix import template_job  # noqa: E402
from auterity_dagster.resources.database import DatabaseResource  # noqa: E402
from auterity_dagster.sensors.automatrix import ready_executions  # noqa: E402
from auterity_dagster.storage.database import BlockingDatabase  # noqa: E402
from auterity_dagster.storage.migrate import migrate  # noqa: E402
from auterity_dagster.storage.repositories.events import deliver_blocking  # noqa: E402
from auterity_dagster.storage.repositories.slots import NEVER  # noqa: E402
from tests.fakes.clock import FakeClock  # noqa: E402
from tests.fakes.workflow_world import (  # noqa: E402
    Dealership,
    World,
    install_workflow,
    lead_event,
    new_dealership,
    one_step,
    templates,
)

PASSWORD = "only-for-benchmarks"
CLAIMS = 40
TICKS = 30
CARRIED = 1_000
FLOOD = 10_000
OTHERS = 49
ROUNDS = 4


@dataclass(frozen=True)
class Urls:
    owner: str
    application: str


@dataclass(frozen=True)
class Stage:
    urls: Urls
    world: World
    folder: Path


@contextmanager
def stage() -> Iterator[Stage]:
    folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
    folder.chmod(0o755)
    server = start_postgres(folder / "postgres", durable=True)
    try:
        migrate(server.url("postgres"), application_password=PASSWORD)
        urls = Urls(server.url("postgres"), server.url("postgres", user="auterity_app", password=PASSWORD))
        database = BlockingDatabase(urls.application, pool_size=16)
        yield Stage(urls, World(database, FakeClock(datetime.now(UTC))), folder)
        database.close()
    finally:
        server.stop()


def copies(urls: Urls, first: UUID, count: int, *, state: str, ready_at: datetime, organizations: int = 0) -> None:
    """Copy an execution, into its own organization or spread over others that have nothing else."""
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        names = [
            str(row[0])
            for row in connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'execution'"
            )
        ]
        spread = f"md5((n %% {organizations})::text)::uuid" if organizations else "organization_id"
        changed = {
            "organization_id": spread, "id": "gen_random_uuid()", "idempotency_key": "gen_random_uuid()::text",
            "state": "%(state)s", "ready_at": "%(ready_at)s", "deadline_at": "%(deadline_at)s", "fence": "0",
        }  # fmt: skip
        values = ", ".join(changed.get(name, name) for name in names)
        statement = (
            f"INSERT INTO execution ({', '.join(names)}) SELECT {values} FROM execution, "
            "generate_series(1, %(count)s) n WHERE id = %(first)s"
        )
        given = {"state": state, "ready_at": ready_at, "count": count, "first": first}
        connection.execute(statement.encode(), {**given, "deadline_at": datetime.now(UTC) + timedelta(days=30)})
        connection.execute("VACUUM ANALYZE execution")


def percentiles(taken: Sequence[float], digits: int = 1) -> dict[str, float]:
    """p50 and p95 of at least twenty values."""
    cuts = statistics.quantiles(taken, n=20)
    return {"p50": round(statistics.median(taken), digits), "p95": round(cuts[18], digits)}


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def claims() -> dict[str, object]:
    """How long a claim of 50 takes beside a flat backlog over 100 organizations."""
    with stage() as found:
        dealership = new_dealership(found.urls, found.world.database, found.world.clock)
        install_workflow(dealership, "lead_response")
        (first,) = dealership.lead()
        now = found.world.clock.now()
        copies(found.urls, first, 100_000, state="succeeded", ready_at=NEVER, organizations=100)
        copies(found.urls, first, 90_000, state="waiting", ready_at=now + timedelta(days=1), organizations=100)
        copies(found.urls, first, 10_000, state="queued", ready_at=now - timedelta(seconds=1), organizations=100)
        engine = found.world.engine()

        def claim() -> None:
            assert len(engine.claim(job="lead_response", lane="interactive", run_id="bench")) == 50

        taken = [milliseconds(claim) for _claim in range(CLAIMS)]
    backlog = {"succeeded": 100_000, "waiting": 90_000, "queued": 10_000, "organizations": 100}
    return {"claim_of_50_ms": percentiles(taken, 2), "backlog": backlog}


def ten_steps_a_minute() -> dict[str, object]:
    """Executions a minute of a ten-step job without a model: fresh processes, one at a time, starts included."""
    with stage() as found:
        dealership = new_dealership(found.urls, found.world.database, found.world.clock)
        install_job(dealership)
        for number in range(CARRIED):
            dealership.lead_of_another(number)
        home = found.folder / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        environment = {
            **os.environ, "DAGSTER_HOME": str(home), "AUTERITY_DATABASE_URL": found.urls.application,
            "AUTERITY_DATA_DIR": str(found.folder),
        }  # fmt: skip
        command = [
            sys.executable, "-m", "dagster", "job", "execute", "-f", str(ROOT / "benchmarks" / "workflow_location.py"),
            "-a", "workflows", "-j", KEY,
        ]  # fmt: skip
        runs: list[float] = []
        while left(found.urls):
            begun = time.perf_counter()
            subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
            runs.append(time.perf_counter() - begun)
        engine_s = engine_alone(found, dealership)
    return {
        "executions": CARRIED,
        "executions_a_minute_one_run_at_a_time": round(CARRIED / sum(runs) * 60),
        "runs_s": [round(one, 1) for one in runs],
        "executions_a_minute_engine_alone": round(CARRIED / engine_s * 60),
    }


def install_job(dealership: Dealership) -> None:
    """Install the ten steps as a version that its own job runs."""
    install_workflow(dealership, ten_steps())
    with psycopg.connect(dealership.urls.owner) as connection:
        connection.execute("UPDATE workflow_version SET job = %s", [KEY])


def left(urls: Urls) -> int:
    with psycopg.connect(urls.owner) as connection:
        row = connection.execute("SELECT count(*) FROM execution WHERE state IN ('queued', 'running')").fetchone()
    assert row is not None
    return row[0]


def engine_alone(found: Stage, dealership: Dealership) -> float:
    """The same without Dagster and without starting a process: seconds for as many executions."""
    for number in range(CARRIED, 2 * CARRIED):
        dealership.lead_of_another(number)
    begun = time.perf_counter()
    while batch(found.world):
        pass
    return time.perf_counter() - begun


def batch(world: World) -> int:
    """One batch of the job without Dagster; returns how many executions it carried."""
    engine = world.engine()
    taken = engine.claim(job=KEY, lane="interactive", run_id=uuid4().hex)
    engine.finish(taken)
    return len(taken)


def waiting() -> dict[str, object]:
    """The sensor's tick and a claim beside 100,000 executions that wait, and what each of them holds."""
    with stage() as found:
        dealership = new_dealership(found.urls, found.world.database, found.world.clock)
        stay = {"id": "stay", "kind": "wait", "with": {"for": "P2D", "event": "message.received"}}
        install_workflow(dealership, one_step(stay))
        (first,) = dealership.lead()
        found.world.turn("custom_workflow")
        before = processes(found.urls)
        later = found.world.clock.now() + timedelta(days=2)
        copies(found.urls, first, 100_000, state="waiting", ready_at=later, organizations=100)
        jobs = [template_job(one) for one in templates().values()]
        sensor = ready_executions(jobs, max_open_runs=2, watch_s=0)
        database = DatabaseResource(url=found.urls.application)
        with dg.DagsterInstance.ephemeral() as instance:

            def tick() -> None:
                with dg.build_sensor_context(instance=instance, resources={"database": database}) as context:
                    assert not sensor.evaluate_tick(context).run_requests

            ticks = [milliseconds(tick) for _tick in range(TICKS)]
        after = processes(found.urls)
    return {"waiting": 100_000, "sensor_tick_ms": percentiles(ticks), "processes": {"before": before, "after": after}}


def processes(urls: Urls) -> int:
    """Processes of this benchmark, PostgreSQL's included."""
    return len(psutil.Process().children(recursive=True)) + 1


def flood() -> dict[str, object]:
    """p95 from ready to finished of 49 organizations, alone and while a fiftieth has queued 10,000."""
    with stage() as found:
        places = [
            new_dealership(found.urls, found.world.database, found.world.clock, name=f"Store {number}")
            for number in range(OTHERS + 1)
        ]
        for place in places:
            install_job(place)
        alone = [one for number in range(ROUNDS) for one in round_of(found.world, places[1:], number)]
        (first,) = places[0].lead()
        copies(found.urls, first, FLOOD, state="queued", ready_at=found.world.clock.now() - timedelta(hours=1))
        flooded = [one for number in range(ROUNDS, 2 * ROUNDS) for one in round_of(found.world, places[1:], number)]
    before, after = percentiles(alone), percentiles(flooded)
    return {
        "organizations": OTHERS + 1,
        "queued_by_one": FLOOD,
        "ready_to_finished_ms_alone": before,
        "ready_to_finished_ms_beside_the_flood": after,
        "p95_moved_percent": round((after["p95"] / before["p95"] - 1) * 100, 1),
    }


def round_of(world: World, places: Sequence[Dealership], number: int) -> list[float]:
    """Each place gets one execution; work until all of them are over; how long each took, in milliseconds."""
    own = {one: time.perf_counter() for place in places for one in start(world, place, number)}
    taken: list[float] = []
    while own:
        batch(world)
        over = finished(world, places, set(own))
        taken += [(time.perf_counter() - own.pop(one)) * 1000 for one in over]
    return taken


def start(world: World, place: Dealership, number: int) -> tuple[UUID, ...]:
    with world.database.begin(place.organization_id) as session:
        return deliver_blocking(session, lead_event(place, number)).started


def finished(world: World, places: Sequence[Dealership], wanted: set[UUID]) -> list[UUID]:
    with psycopg.connect(places[0].urls.owner) as connection:
        rows = connection.execute(
            "SELECT id FROM execution WHERE state = 'succeeded' AND id = ANY(%s)", [list(wanted)]
        ).fetchall()
    return [row[0] for row in rows]


PARTS: dict[str, Callable[[], dict[str, object]]] = {
    "claims": claims, "ten_steps": ten_steps_a_minute, "waiting": waiting, "flood": flood,
}  # fmt: skip


def main(wanted: Sequence[str]) -> None:
    for name in wanted or PARTS:
        load = os.getloadavg()[0]
        figures = PARTS[name]()
        print(json.dumps({name: figures, "cores": os.cpu_count(), "load_before": round(load, 1)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
