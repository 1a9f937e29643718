"""Launch a run where executions are ready: level-triggered, so a lost or doubled launch does no harm."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunRecord, RunsFilter

from auterity_dagster.jobs.automatrix import CLAIMED_TAG, LANE_TAG
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.repositories.ready_work import ReadyWork, ready_work

WATCH_S = 3.5
LOOK_EVERY_S = 0.2
UNCLAIMED_FOR = timedelta(seconds=20)
OPEN = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]


def ready_executions(
    jobs: Sequence[dg.JobDefinition], *, max_open_runs: int, watch_s: float = WATCH_S
) -> dg.SensorDefinition:
    """Return the sensor over these jobs.

    The daemon wakes a sensor every 5 s whatever its interval, so a tick watches for `watch_s` and returns at the first
    ready execution.
    """

    @dg.sensor(
        name="ready_executions",
        jobs=jobs,
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def look(context: dg.SensorEvaluationContext, database: DatabaseResource):
        """Executions whose `ready_at` has come."""
        until = time.monotonic() + watch_s
        with database.connected() as connected:
            while True:
                with connected.begin_without_organization() as session:
                    work = ready_work(session, datetime.now(UTC))
                requests = list(_requests(context.instance, work, max_open_runs=max_open_runs)) if work else []
                if requests or time.monotonic() >= until:
                    return requests or dg.SkipReason("nothing is ready")
                time.sleep(LOOK_EVERY_S)

    return look


def _requests(
    instance: dg.DagsterInstance, work: Iterable[ReadyWork], *, max_open_runs: int
) -> Iterator[dg.RunRequest]:
    for one in work:
        tags = {LANE_TAG: one.lane}
        records = instance.get_run_records(RunsFilter(job_name=one.job, statuses=OPEN, tags=tags), limit=max_open_runs)
        if len(records) < max_open_runs and not any(_will_claim(record) for record in records):
            yield dg.RunRequest(job_name=one.job, tags=tags)


def _will_claim(record: RunRecord) -> bool:
    """True for a run that has not claimed yet and is young enough to be expected to."""
    age = datetime.now(UTC) - record.create_timestamp
    return CLAIMED_TAG not in record.dagster_run.tags and age < UNCLAIMED_FOR
