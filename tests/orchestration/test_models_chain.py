"""The code location `models`: the whole chain with the tiny model, on real PostgreSQL and MLflow's own store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from auterity_dagster.clock import SystemClock
from auterity_dagster.definitions import models
from auterity_dagster.jobs.neuroweaver import run_config
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.tables.routing import DeploymentRow, RouteQualityRow
from auterity_dagster.storage.tables.specialisation import GateVerdictRow, TrainingStageRow
from tests.conftest import DatabaseUrls
from tests.fakes.judging_stub import StubGateway, stub_gateway

CONFIG = Path(__file__).parents[2] / "config"


@dataclass(frozen=True)
class Installation:
    folder: Path
    gateway: StubGateway
    organization_id: UUID
    definitions: dg.Definitions
    database: BlockingDatabase

    def run(self, job: str = "nw_demo") -> dg.ExecuteInProcessResult:
        found = self.definitions.resolve_job_def(job)
        configuration = run_config(self.organization_id, recipe="tiny_cpu", conversations=200)
        with dg.DagsterInstance.ephemeral() as instance:
            return found.execute_in_process(run_config=configuration, instance=instance, raise_on_error=False)


@pytest.fixture
def installation(
    database_urls: DatabaseUrls,
    blocking_database: BlockingDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Installation]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, text in (("pepper", "ab" * 32), ("model_server_token", "only-for-tests")):
        (secrets / name).write_text(text)
        (secrets / name).chmod(0o600)
    created = create_organization(
        blocking_database,
        name="Harbor Group",
        owner_email="owner@example.com",
        owner_password="a long enough passphrase",
        pepper=bytes.fromhex("ab" * 32),
        clock=SystemClock(),
    )
    with stub_gateway() as gateway:
        monkeypatch.setenv("AUTERITY_DATABASE_URL", database_urls.application)
        monkeypatch.setenv("AUTERITY_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("AUTERITY_SECRETS_DIR", str(secrets))
        monkeypatch.setenv("AUTERITY_CONFIG_DIR", str(CONFIG))
        monkeypatch.setenv("AUTERITY_GATEWAY_URL", gateway.url)
        monkeypatch.setenv("AUTERITY_MLFLOW_URL", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.chdir(tmp_path)
        yield Installation(tmp_path, gateway, created.organization_id, models(), blocking_database)


def rows(installation: Installation, table: type) -> list:
    with installation.database.begin(installation.organization_id) as session:
        return list(session.scalars(select(table)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_chain_that_proves_nothing_ends_well_and_releases_nothing(installation: Installation) -> None:
    first = installation.run()

    assert first.success, [event.message for event in first.all_events if event.is_failure]
    made = {event.asset_key.path[-1] for event in first.get_asset_materialization_events() if event.asset_key}
    assert {"sft_adapter", "dpo_adapter", "serving_bundle", "evaluation_report", "gate_verdict"} <= made
    assert not {"registered_model", "deployment"} & made
    assert [row.outcome for row in rows(installation, GateVerdictRow)] != ["PASS"]
    assert rows(installation, DeploymentRow) == []
    evidence = {(row.task, row.artefact_digest) for row in rows(installation, RouteQualityRow)}
    assert {digest for _, digest in evidence} >= {"provider:sandbox/sandbox-large", "provider:sandbox/sandbox-small"}
    assert {asked["purpose"] for asked in installation.gateway.asked} == {"judging"}
    client = MlflowClient(tracking_uri=f"sqlite:///{installation.folder}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments() if each.name.startswith("neuroweaver/")]
    names = {run.info.run_name for run in client.search_runs(experiments)}
    assert names >= {"tiny_cpu sft", "tiny_cpu evaluation"}
    attempts = {row.stage_key: row.attempts for row in rows(installation, TrainingStageRow)}

    second = installation.run("nw_train")

    assert second.success
    assert {row.stage_key: row.attempts for row in rows(installation, TrainingStageRow)} == attempts
