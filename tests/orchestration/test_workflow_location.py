"""The code location `workflows`: its jobs, its sensor, its schedule, on a real database."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest

from auterity_dagster.definitions import workflows
from auterity_dagster.jobs.automatrix import CLAIMED_TAG, LANE_TAG, template_job
from auterity_dagster.jobs.cron_triggers import due_cron_triggers, fire_cron_triggers
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.sensors.automatrix import ready_executions
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.audience_rows import ServiceDue, put_service_due
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.workflow_world import Dealership, install_workflow, new_dealership, run_async, templates


@pytest.fixture
def dealership(database_urls: DatabaseUrls, blocking_database: BlockingDatabase) -> Dealership:
    return new_dealership(database_urls, blocking_database, FakeClock(datetime.now(UTC)))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "GATEWAY_URL", "SECRETS_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"AUTERITY_{name}", "read when a run begins")


@pytest.fixture
def database_resource(database_urls: DatabaseUrls) -> DatabaseResource:
    return DatabaseResource(url=database_urls.application)


def look(
    instance: dg.DagsterInstance, database: DatabaseResource, *, max_open_runs: int = 2, busy_after_s: float = 0
) -> list[dg.RunRequest]:
    jobs = [template_job(template) for template in templates().values()]
    sensor = ready_executions(jobs, max_open_runs=max_open_runs, watch_s=0, busy_after_s=busy_after_s)
    context = dg.build_sensor_context(instance=instance, resources={"database": database})
    return list(sensor.evaluate_tick(context).run_requests or [])


def open_run(instance: dg.DagsterInstance, **tags: str) -> None:
    job = workflows().get_repository_def().get_job("lead_response")
    instance.create_run_for_job(job, tags={LANE_TAG: "interactive", **tags}, status=dg.DagsterRunStatus.STARTED)


def test_every_template_is_a_job_with_an_op_per_step_in_order() -> None:
    repository = workflows().get_repository_def()

    for key, template in templates().items():
        names = [node.name for node in repository.get_job(key).nodes_in_topological_order]
        assert names == ["claim", *template.order, "finish", "carry_on"]
    assert repository.has_job("custom_workflow")


def test_the_location_starts_slim() -> None:
    code = (
        "import sys; from auterity_dagster.definitions import workflows; workflows().get_repository_def(); "
        "heavy = {'mlflow', 'evidently', 'torch', 'pandas', 'transformers'}; print(*heavy & set(sys.modules), end='')"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    assert (loaded.returncode, loaded.stdout) == (0, ""), loaded.stderr


def test_the_sensor_asks_for_a_run_where_work_is_ready(
    dealership: Dealership, database_resource: DatabaseResource
) -> None:
    install_workflow(dealership, "lead_response")
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(instance, database_resource) == []
        dealership.lead()

        (request,) = look(instance, database_resource)

    assert (request.job_name, request.tags[LANE_TAG]) == ("lead_response", "interactive")


def test_the_sensor_waits_for_a_run_that_has_not_claimed_yet(
    dealership: Dealership, database_resource: DatabaseResource
) -> None:
    install_workflow(dealership, "lead_response")
    dealership.lead()

    with dg.DagsterInstance.ephemeral() as instance:
        open_run(instance)
        assert look(instance, database_resource) == []


def test_the_sensor_goes_on_beside_a_run_that_is_busy_up_to_its_limit(
    dealership: Dealership, database_resource: DatabaseResource
) -> None:
    install_workflow(dealership, "lead_response")
    dealership.lead()

    with dg.DagsterInstance.ephemeral() as instance:
        open_run(instance, **{CLAIMED_TAG: "3"})
        assert look(instance, database_resource, busy_after_s=60) == []
        assert len(look(instance, database_resource)) == 1
        open_run(instance, **{CLAIMED_TAG: "3"})
        assert look(instance, database_resource) == []


def test_a_due_schedule_fires_once_for_its_audience(
    dealership: Dealership, database_resource: DatabaseResource, database_urls: DatabaseUrls
) -> None:
    install_workflow(dealership, "service_reminder")
    now = datetime.now(UTC)
    due = [
        ServiceDue(f"c{number}", "Ada", "sms", f"+131255501{number:02}", "2021 Toyota RAV4", "oil", ("Tue 9:00",), now)
        for number in range(3)
    ]
    run_async(
        database_urls,
        dealership.organization_id,
        lambda session: put_service_due(session, dealership.dealership_id, due, now=now),
    )
    context = dg.build_schedule_context(resources={"database": database_resource})
    assert due_cron_triggers.evaluate_tick(context).run_requests == []
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("UPDATE workflow_trigger SET next_fire_at = %s", [now - timedelta(seconds=1)])

    assert len(due_cron_triggers.evaluate_tick(context).run_requests or []) == 1
    for _run in range(2):
        fire_cron_triggers.execute_in_process(resources={"database": database_resource})

    with psycopg.connect(database_urls.owner) as connection:
        found = connection.execute("SELECT job, lane, count(*) FROM execution GROUP BY 1, 2").fetchall()
        (next_at,) = connection.execute("SELECT next_fire_at FROM workflow_trigger").fetchone() or (now,)
    assert found == [("service_reminder", "batch", 3)]
    assert next_at > now
