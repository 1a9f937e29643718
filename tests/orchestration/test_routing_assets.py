"""The chain that learns routing, materialised: outcomes, a predictor in plain arrays, a gate that fails closed."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import dagster as dg
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from auterity_dagster.clock import SystemClock
from auterity_dagster.definitions import models
from auterity_dagster.jobs.relaycore import run_config
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.predictor_bundle import load_predictor
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.repositories.outcome_sets import add_outcome_set
from auterity_dagster.storage.tables.analytics import RoutingPredictorRow
from auterity_dagster.storage.tables.specialisation import GateVerdictRow
from auterity_dagster.training.routing.outcome_file import outcome_bytes
from tests.conftest import DatabaseUrls
from tests.routing.conftest import make_outcomes, write_outcomes


@dataclass(frozen=True)
class Location:
    folder: Path
    organization_id: UUID
    database: BlockingDatabase

    def run(self, outcomes: Path | None, *, floor: float = 0.6) -> dg.ExecuteInProcessResult:
        job = models().resolve_job_def("rc_quality")
        configuration = run_config(self.organization_id, outcomes=str(outcomes or ""), floor=floor)
        with dg.DagsterInstance.ephemeral() as instance:
            return job.execute_in_process(run_config=configuration, instance=instance, raise_on_error=False)

    def rows(self, table: type) -> list:
        with self.database.begin(self.organization_id) as session:
            return list(session.scalars(select(table)))


@pytest.fixture
def location(
    database_urls: DatabaseUrls,
    blocking_database: BlockingDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Location:
    created = create_organization(
        blocking_database,
        name="Harbor Group",
        owner_email="owner@example.com",
        owner_password="a long enough passphrase",
        pepper=bytes(32),
        clock=SystemClock(),
    )
    monkeypatch.setenv("AUTERITY_DATABASE_URL", database_urls.application)
    monkeypatch.setenv("AUTERITY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AUTERITY_CONFIG_DIR", str(Path(__file__).parents[2] / "config"))
    monkeypatch.setenv("AUTERITY_MLFLOW_URL", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return Location(tmp_path, created.organization_id, blocking_database)


def test_a_predictor_without_logged_decisions_is_registered_and_does_not_choose(location: Location) -> None:
    result = location.run(write_outcomes(location.folder / "o.parquet", make_outcomes(prompts=800)))

    assert result.success, [event.message for event in result.all_events if event.is_failure]
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert checks.keys() >= {"enough_prompts", "plain_arrays", "loads_again", "verdict_is_stored", "better_than_length"}
    assert all(checks.values())
    [verdict] = location.rows(GateVerdictRow)
    gates = {one["gate"]: one["outcome"] for one in verdict.reasons}
    assert (verdict.outcome, gates["replay"]) == ("INCONCLUSIVE", "INCONCLUSIVE")
    [published] = location.rows(RoutingPredictorRow)
    assert (published.alias, published.artefact_digest) == ("challenger", verdict.artefact_digest)
    predictor = load_predictor(ObjectStore(location.folder / "objects").checkout(verdict.artefact_digest))
    assert predictor.models == ("model-0", "model-1")
    client = MlflowClient(tracking_uri=f"sqlite:///{location.folder}/mlflow.db")
    name = f"routing-o-{location.organization_id.hex[:8]}"
    assert (
        client.get_model_version_by_alias(name, "challenger").tags["auterity.artefact_digest"]
        == published.artefact_digest
    )


def test_what_evaluations_left_is_learned_from_without_a_file(location: Location) -> None:
    rows = make_outcomes(prompts=120)
    digest = ObjectStore(location.folder / "objects").put_bytes(outcome_bytes(rows))
    with location.database.begin(location.organization_id) as session:
        add_outcome_set(session, location.organization_id, digest=digest, source="evaluation", outcomes=len(rows))

    result = location.run(None)

    assert result.success, [event.message for event in result.all_events if event.is_failure]
    [verdict] = location.rows(GateVerdictRow)
    assert verdict.outcome != "PASS"


def test_nothing_measured_ends_with_one_sentence(location: Location) -> None:
    result = location.run(None)

    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "there is nothing to learn from" in str(failure.event_specific_data)
    assert location.rows(RoutingPredictorRow) == []


def test_a_table_with_a_mistake_is_refused_by_the_column(location: Location) -> None:
    rows = make_outcomes(prompts=60)
    path = write_outcomes(location.folder / "o.parquet", rows, score=[1.7] * len(rows))

    result = location.run(path)

    assert not result.success
    assert "column score" in "".join(str(event.event_specific_data) for event in result.all_events if event.is_failure)
