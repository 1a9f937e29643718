"""Start the judging of what challengers answered in the shadow, one run at a time."""

import dagster as dg
from dagster import RunsFilter
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from auterity_dagster.assets.neuroweaver.answer_comparisons import challengers_in_shadow
from auterity_dagster.jobs.neuroweaver import nw_compare
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.storage.repositories import shadow_texts
from auterity_dagster.storage.repositories.retrain_requests import organizations_with_serving

LOOK_S = 60


@dg.sensor(job=nw_compare, minimum_interval_seconds=LOOK_S, default_status=dg.DefaultSensorStatus.RUNNING)
def waiting_comparisons(
    context: dg.SensorEvaluationContext, database: DatabaseResource
) -> dg.SkipReason | dg.RunRequest:
    """Ask for a run while pairs wait and none is under way; what it does not finish waits for the next one."""
    under_way = RunsFilter(job_name=nw_compare.name, statuses=list(IN_PROGRESS_RUN_STATUSES))
    if context.instance.get_runs(under_way, limit=1):
        return dg.SkipReason("pairs are being judged")
    waiting = 0
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = organizations_with_serving(session)
        for organization_id in organizations:
            states = challengers_in_shadow(connected, organization_id)
            digests = [one.challenger_digest or "" for one in states]
            with connected.begin(organization_id) as session:
                waiting += shadow_texts.count_waiting(session, shadow_artefact_digests=digests)
    return dg.RunRequest() if waiting else dg.SkipReason("no pair waits")
