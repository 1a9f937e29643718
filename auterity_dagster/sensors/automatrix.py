"""Launch a run where executions are ready: level-triggered, so a lost or doubled launch does no harm."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunRecord, RunsFilter

from auterity_dagster.jobs.automatrix import CLAIMED_TAG, LANE_TAG
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.repositories.ready_work import ReadyWork, ready_work

WATCH_S = 3.5
LOOK_EVERY_S = 0.2
UNCLAIMED_FOR = timedelta(seconds=20)
BUSY_AFTER_S = 1.0
"""A run that carries on takes what is ready within this time; another one beside it is for more than it can take."""
OPEN = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]


def ready_executions(
    jobs: Sequence[dg.JobDefinition],
    *,
    max_open_runs: int,
    watch_s: float = WATCH_S,
    busy_after_s: float = BUSY_AFTER_S,
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
        begun = time.monotonic()
        since: dict[tuple[str, str], float] = {}
        with database.connected() as connected:
            while True:
                with connected.begin_without_organization() as session:
                    work = ready_work(session, datetime.now(UTC))
                now = time.monotonic()
                since = {(one.job, one.lane): since.get((one.job, one.lane), now) for one in work}
                left = {key for key, first_seen in since.items() if now - first_seen >= busy_after_s}
                requests = list(_requests(context.instance, work, left=left, max_open_runs=max_open_runs))
                if requests or now - begun >= watch_s:
                    return requests or dg.SkipReason("nothing is ready")
                time.sleep(LOOK_EVERY_S)

    return look


def _requests(
    instance: dg.DagsterInstance, work: Iterable[ReadyWork], *, left: Collection[tuple[str, str]], max_open_runs: int
) -> Iterator[dg.RunRequest]:
    """A run for work that has none; beside one that is busy only where work is `left` for longer."""
    for one in work:
        tags = {LANE_TAG: one.lane}
        records = instance.get_run_records(RunsFilter(job_name=one.job, statuses=OPEN, tags=tags), limit=max_open_runs)
        is_wanted = not records or ((one.job, one.lane) in left and len(records) < max_open_runs)
        if is_wanted and not any(_will_claim(record) for record in records):
            yield dg.RunRequest(job_name=one.job, tags=tags)


def _will_claim(record: RunRecord) -> bool:
    """True for a run that has not claimed yet and is young enough to be expected to."""
    age = datetime.now(UTC) - record.create_timestamp
    return CLAIMED_TAG not in record.dagster_run.tags and age < UNCLAIMED_FOR
