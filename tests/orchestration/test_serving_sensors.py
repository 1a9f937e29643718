"""The sensors of NeuroWeaver: training that was asked for starts once, aliases mirror the ledger, harm has an end."""

from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import pytest
from mlflow.tracking import MlflowClient

from auterity_dagster.clock import SystemClock
from auterity_dagster.neuroweaver.switching import ServingPhase
from auterity_dagster.resources.alias_mirror import mirror_aliases
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.sensors.neuroweaver import REQUEST_TAG, scope_watch, training_requests
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import observations, retrain_requests, serving_state
from tests.conftest import DatabaseUrls
from tests.storage.serving_scopes import SCOPE, Scope, digest, ledger, new_scope, served


@pytest.fixture
def scope(blocking_database: BlockingDatabase) -> Scope:
    return new_scope(blocking_database)


@pytest.fixture
def installation(mlflow_url: str, tmp_path: Path) -> InstallationResource:
    (tmp_path / "model_server_token").write_text("only-for-tests")
    (tmp_path / "model_server_token").chmod(0o600)
    return InstallationResource(
        data_dir=str(tmp_path),
        secrets_dir=str(tmp_path),
        config_dir=str(tmp_path),
        gateway_url="http://127.0.0.1:1",
        model_server_url="http://127.0.0.1:1",
        mlflow_url=mlflow_url,
    )


def asked(scope: Scope) -> UUID:
    with scope.database.begin(scope.organization_id) as session:
        new = retrain_requests.NewRequest(
            organization_id=scope.organization_id,
            scope=SCOPE,
            reason="person",
            evidence={},
            budget_nusd=1,
            recipe="tiny_cpu",
            configuration={"conversations": 300},
            opened_by="somebody",
        )
        return retrain_requests.open_request(session, new, now=SystemClock().now()).id


def state_of(scope: Scope, request_id: UUID) -> tuple[str, str | None]:
    with scope.database.begin(scope.organization_id) as session:
        row = retrain_requests.find_request(session, request_id)
        return row.state, row.run_id


def test_a_training_run_starts_once_and_its_end_is_noted(scope: Scope, database_urls: DatabaseUrls) -> None:
    request_id = asked(scope)
    database = DatabaseResource(url=database_urls.application)
    with dg.DagsterInstance.ephemeral() as instance:

        def look() -> list[dg.RunRequest]:
            context = dg.build_sensor_context(instance=instance, resources={"database": database})
            return list(training_requests.evaluate_tick(context).run_requests or ())

        first, second = look(), look()
        started = state_of(scope, request_id)
        run = instance.create_run_for_job(
            dg.Definitions(jobs=[_empty]).resolve_job_def("empty"), tags={REQUEST_TAG: str(request_id)}
        )
        look()
        running = state_of(scope, request_id)
        instance.report_run_failed(run)
        look()

    assert [one.run_key for one in first] == [str(request_id)]
    assert first[0].run_config["resources"]["candidate"]["config"]["conversations"] == 300
    assert second == []
    assert (started, running) == (("started", None), ("started", None))
    assert state_of(scope, request_id) == ("failed", run.run_id)


@dg.op
def nothing() -> None: ...


@dg.job(name="empty")
def _empty() -> None:
    nothing()


def test_aliases_follow_the_ledger_and_a_hand_moved_one_is_set_right(
    scope: Scope, installation: InstallationResource
) -> None:
    registry, name = installation.registry(), f"neuroweaver-{SCOPE}"
    run_id = installation.tracking().start_run(experiment="e", name="n", key=str(uuid4()), tags={})
    for letter in "ab":
        registry.register(
            name=name,
            source="file:///x",
            run_id=run_id,
            artefact_digest=digest(letter),
            tags={},
            description="",
        )
    scope.release("a")
    scope.switch(None, "a", key="1")
    scope.release("b")
    client = MlflowClient(tracking_uri=installation.mlflow_url, registry_uri=installation.mlflow_url)

    def aliases() -> dict[str, str]:
        mirror_aliases(scope.database, registry, scope.organization_id)
        return dict(registry.aliases(name))

    first = aliases()
    scope.switch("a", "b", phase=ServingPhase.SHADOW, weight_percent=0, key="2")
    shadow = aliases()
    scope.switch("a", "b", phase=ServingPhase.CANARY, weight_percent=5, key="3")
    canary = aliases()
    scope.switch("a", "b", key="4")
    promoted = aliases()
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "challenger", "1")
    moved = dict(registry.aliases(name))
    repaired = mirror_aliases(scope.database, registry, scope.organization_id)

    assert first == {"champion": "1"}
    assert shadow == {"champion": "1", "shadow": "2"}
    assert canary == {"champion": "1", "challenger": "2"}
    assert promoted == {"champion": "2", "previous": "1"}
    assert moved != promoted
    assert dict(registry.aliases(name)) == promoted
    assert len(repaired) == 2
    assert mirror_aliases(scope.database, registry, scope.organization_id) == ()


def test_the_watch_advances_a_winner_takes_a_harmful_model_back_and_obeys_a_pin(
    scope: Scope, installation: InstallationResource, database_urls: DatabaseUrls
) -> None:
    scope.release("a")
    scope.switch(None, "a", key="1")
    scope.release("b")
    scope.switch("a", "b", phase=ServingPhase.SHADOW, weight_percent=0, key="2")
    resources = {"database": DatabaseResource(url=database_urls.application), "installation": installation}

    def look() -> dict[str, tuple[str, int]]:
        scope_watch.evaluate_tick(dg.build_sensor_context(resources=resources))
        return served(scope)

    undecided = look()
    with scope.database.begin(scope.organization_id) as session:
        for _ in range(60):
            observations.record_pair(
                session,
                organization_id=scope.organization_id,
                scope=SCOPE,
                request_id=uuid4(),
                champion_digest=digest("a"),
                challenger_digest=digest("b"),
                winner="challenger",
                decided_by="programs",
            )
    advanced = look()
    with scope.database.begin(scope.organization_id) as session:
        serving_state.pin(session, SCOPE, by="owner")
    scope.report_harm("b", deployment_id="neuroweaver/o-1@challenger")
    pinned = look()
    with scope.database.begin(scope.organization_id) as session:
        serving_state.pin(session, SCOPE, by=None)
    taken_back = look()

    assert undecided == {"champion": ("a", 100), "challenger": ("b", 0)}
    assert advanced == {"champion": ("a", 100), "challenger": ("b", 1)}
    assert pinned == advanced
    assert taken_back == {"champion": ("a", 100)}
    assert [row.state for row in ledger(scope)] == ["champion", "shadow", "canary", "rolled_back"]
    with scope.database.begin(scope.organization_id) as session:
        assert [row.reason for row in retrain_requests.open_requests(session)] == ["quality_lost"]
