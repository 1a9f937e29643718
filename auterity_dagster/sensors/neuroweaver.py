"""Watch what scopes serve, mirror it in MLflow, and start the training that was asked for."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from auterity_dagster.errors import Conflict, Unavailable
from auterity_dagster.jobs.neuroweaver import nw_demo, run_config
from auterity_dagster.money import in_usd
from auterity_dagster.resources.alias_mirror import mirror_aliases
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.model_server_client import ModelServerClient
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import retrain_requests, serving_state, training_budgets
from auterity_dagster.storage.repositories.rollout_steps import take_step
from auterity_dagster.storage.tables.specialisation import RetrainRequestRow

WATCH_S = 10
MIRROR_S = 30
REQUEST_TAG = "auterity/training_run"

_ENDED = {DagsterRunStatus.SUCCESS: "finished", DagsterRunStatus.FAILURE: "failed", DagsterRunStatus.CANCELED: "failed"}


@dg.sensor(minimum_interval_seconds=WATCH_S, default_status=dg.DefaultSensorStatus.RUNNING)
def scope_watch(
    context: dg.SensorEvaluationContext, database: DatabaseResource, installation: InstallationResource
) -> dg.SkipReason:
    """Decide about every challenger and champion from what their traffic says; a rollback takes effect at once."""
    told: list[str] = []
    failures: dict[str, int] = json.loads(context.cursor or "{}")
    seen: dict[str, int] = {}
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = retrain_requests.organizations_with_serving(session)
        for organization_id in organizations:
            told += _watch(context, connected, installation, organization_id, failures, seen)
    context.update_cursor(json.dumps(seen))
    return dg.SkipReason("; ".join(told) or "nothing to switch")


@dg.sensor(minimum_interval_seconds=MIRROR_S, default_status=dg.DefaultSensorStatus.RUNNING)
def alias_mirror(
    context: dg.SensorEvaluationContext, database: DatabaseResource, installation: InstallationResource
) -> dg.SkipReason:
    """Make MLflow's aliases say what scopes serve, also where a hand moved one."""
    changed: list[str] = []
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = retrain_requests.organizations_with_serving(session)
        for organization_id in organizations:
            try:
                changed += mirror_aliases(connected, installation.registry(), organization_id)
            except Unavailable as error:
                context.log.warning(error.message)
    return dg.SkipReason("; ".join(changed) or "every alias is right")


@dg.sensor(job=nw_demo, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def training_requests(context: dg.SensorEvaluationContext, database: DatabaseResource) -> Iterator[dg.RunRequest]:
    """Start each training run that was asked for once, and note how it ended."""
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = retrain_requests.organizations_with_open_retraining(session)
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                waiting = retrain_requests.open_requests(session)
            for request in waiting:
                if request.state == "open":
                    # The run key makes the run one, however often this is asked; the row only says that it was.
                    yield _run(request)
                    with connected.begin(organization_id) as session:
                        retrain_requests.start_request(session, request.id)
                else:
                    _note_end(context.instance, connected, request)


def _watch(
    context: dg.SensorEvaluationContext,
    database: BlockingDatabase,
    installation: InstallationResource,
    organization_id: UUID,
    failures: dict[str, int],
    seen: dict[str, int],
) -> list[str]:
    told: list[str] = []
    with database.begin(organization_id) as session:
        states = serving_state.scopes(session)
    for state in states:
        digest = state.challenger_digest or state.current_digest
        if digest is None:
            continue
        if not _is_healthy(installation, digest):
            seen[digest] = failures.get(digest, 0) + 1
        try:
            with database.begin(organization_id) as session:
                step = take_step(
                    session,
                    organization_id,
                    state.scope,
                    now=datetime.now(UTC),
                    failed_health_checks=seen.get(digest, 0),
                )
                if step is not None and step.is_done and step.decision.move == "roll_back":
                    retrain_requests.request_again(
                        session,
                        organization_id,
                        state.scope,
                        reason="quality_lost",
                        evidence={"artefact_digest": digest, "reason": step.decision.reason},
                        now=datetime.now(UTC),
                    )
        except Conflict as error:
            context.log.info(f"{state.scope}: {error.message}")
            continue
        if step is not None and step.is_done:
            told.append(f"{state.scope}: {step.decision.move}, {step.decision.reason}")
            context.log.warning(told[-1])
    return told


def _is_healthy(installation: InstallationResource, digest: str) -> bool:
    """Whether the model writes; a server that is away as a whole is the lease's business, not one model's fault."""
    server = ModelServerClient(installation.model_server_url, installation.model_server_token)
    if not server.is_up() or server.has_loaded(f"adapter:{digest}"):
        return True
    try:
        server.load(f"adapter:{digest}")
    except Unavailable:
        return False
    return True


def _run(request: RetrainRequestRow) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=str(request.id),
        run_config=dict(
            run_config(
                request.organization_id,
                recipe=request.recipe,
                training_request=str(request.id),
                budget_usd=in_usd(request.budget_nusd) if request.budget_nusd else "",
                **request.configuration,
            )
        ),
        tags={REQUEST_TAG: str(request.id)},
    )


def _note_end(instance: dg.DagsterInstance, database: BlockingDatabase, request: RetrainRequestRow) -> None:
    runs = instance.get_runs(RunsFilter(tags={REQUEST_TAG: str(request.id)}), limit=1)
    state = _ENDED.get(runs[0].status) if runs else None
    if state is None:
        return
    with database.begin(request.organization_id) as session:
        retrain_requests.end_request(session, request.id, state=state, run_id=runs[0].run_id, now=datetime.now(UTC))
        training_budgets.close(session, request.id, now=datetime.now(UTC))
