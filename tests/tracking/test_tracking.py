from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from auterity_dagster.errors import Unavailable
from auterity_dagster.mlflow.registry import MlflowRegistry
from auterity_dagster.mlflow.tracking import DatasetMark, MlflowTracking, Point

DIGEST = "a" * 64


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def tracking(url: str) -> MlflowTracking:
    return MlflowTracking(url)


@pytest.fixture
def run_id(tracking: MlflowTracking, url: str, tmp_path: Path) -> str:
    client = MlflowClient(tracking_uri=url)
    if client.get_experiment_by_name("scope") is None:
        client.create_experiment("scope", artifact_location=str(tmp_path / "artifacts"))
    return tracking.start_run(experiment="scope", name="sft", key="k1", tags={"organization": "o"})


def test_a_stage_has_one_run_however_often_it_starts(tracking: MlflowTracking, run_id: str) -> None:
    again = tracking.start_run(experiment="scope", name="sft", key="k1", tags={})
    other = tracking.start_run(experiment="scope", name="sft", key="k2", tags={})

    assert again == run_id
    assert other != run_id


def test_a_run_shows_parameters_curves_and_the_digest_of_its_data(
    tracking: MlflowTracking, url: str, run_id: str
) -> None:
    tracking.log(
        run_id,
        parameters={"r": 16},
        figures={"held_out_loss": 0.9},
        points=[Point("loss", 2.0, 1, 1), Point("loss", 1.0, 2, 2)],
        datasets=[DatasetMark(name="train", digest=DIGEST, source="objects/a", context="training")],
    )
    tracking.finish(run_id)

    client = MlflowClient(tracking_uri=url)
    run = client.get_run(run_id)
    assert run.data.params["r"] == "16"
    assert run.data.metrics["held_out_loss"] == 0.9
    assert [point.value for point in client.get_metric_history(run_id, "loss")] == [2.0, 1.0]
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.digest == DIGEST[:36]
    assert run.info.status == "FINISHED"


def test_a_version_is_made_once_and_an_alias_names_its_bytes(
    tracking: MlflowTracking, url: str, run_id: str, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    source = tracking.log_folder(run_id, tmp_path / "adapter", path="adapter")
    registry = MlflowRegistry(url)
    values = {"name": "scope", "source": source, "run_id": run_id, "artefact_digest": DIGEST, "tags": {}}

    first = registry.register(**values, description="card")
    second = registry.register(**values, description="card")
    registry.set_alias(first, "champion")

    assert first == second
    assert registry.digest_of("scope", "champion") == DIGEST
    assert registry.digest_of("scope", "challenger") is None


def test_a_server_that_refuses_is_unavailable(tracking: MlflowTracking) -> None:
    with pytest.raises(Unavailable):
        tracking.finish("no-such-run")
