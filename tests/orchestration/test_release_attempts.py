"""Nothing that a run brings along opens registration, deployment or routing; a stored PASS for these bytes does."""

from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from auterity_dagster.assets.neuroweaver.documents import Evaluated, Judged, Registered, StageArtefact, handed
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.database import BlockingDatabase
from tests.conftest import DatabaseUrls
from tests.orchestration.release_attempts import Attempt, Workbench, attempts, came_through, new_workbench
from tests.storage.hostile_adapters import base_of, hostile, sound_files, stored


@pytest.fixture
def workbench(
    database_urls: DatabaseUrls, blocking_database: BlockingDatabase, mlflow_url: str, tmp_path: Path
) -> Workbench:
    return new_workbench(database_urls, blocking_database, mlflow_url, tmp_path)


def test_no_attempt_registers_deploys_or_routes(workbench: Workbench) -> None:
    assert {attempt: opened for attempt in attempts(20) if (opened := came_through(workbench, attempt))} == {}


@dataclass(frozen=True)
class OfBundle(Attempt):
    """An attempt with bytes that stand in the object store."""

    bundle: str

    @property
    def digest(self) -> str:
        return self.bundle


def with_a_pass(bundle: str) -> OfBundle:
    return OfBundle("PASS", "as stored", "whole run", "registered_model", bundle)  # type: ignore[arg-type]


def test_a_stored_pass_of_these_bytes_registers_them(workbench: Workbench) -> None:
    store = workbench.installation.store
    honest = with_a_pass(stored(store, sound_files(base_of(store))))

    assert came_through(workbench, honest) == ["registered", "switched by hand", "routed"]


@pytest.mark.parametrize("variant", ["a pickle as weights", "a weight that is no number"])
def test_a_pass_registers_no_hostile_bytes(workbench: Workbench, tmp_path: Path, variant: str) -> None:
    store = workbench.installation.store
    files, _ = hostile(sound_files(base_of(store)), tmp_path / "witness")[variant]

    assert "registered" not in came_through(workbench, with_a_pass(stored(store, files)))


@dg.asset(dagster_type=handed(Registered), output_required=False, name="registered_model")
def trusting_registered_model(
    installation: InstallationResource,
    serving_bundle: StageArtefact,
    evaluation_report: Evaluated,
    gate_verdict: Judged,
) -> dg.MaterializeResult:
    """The control: Dagster ran it after the blocking check, so it takes the check's word and reads no verdict."""
    version = installation.registry().register(
        name="neuroweaver-trusting",
        source="file:///nowhere",
        run_id=evaluation_report.mlflow_run_id or "",
        artefact_digest=serving_bundle.digest,
        tags={},
        description="",
    )
    registered = Registered(
        name=version.name,
        version=version.version,
        artefact_digest=serving_bundle.digest,
        verdict_digest=gate_verdict.verdict_digest,
    )
    return dg.MaterializeResult(value=registered)


@pytest.mark.control
@pytest.mark.parametrize(
    "attempt",
    [
        Attempt("FAIL", "as stored", "check warns", "registered_model"),
        Attempt("FAIL", "as stored", "later run", "registered_model"),
        Attempt("INCONCLUSIVE", "as stored", "check deselected", "registered_model"),
        Attempt("none", "says PASS", "whole run", "registered_model"),
    ],
    ids=lambda attempt: attempt.manner,
)
def test_an_asset_that_trusts_the_check_registers_what_the_gate_refused(workbench: Workbench, attempt: Attempt) -> None:
    workbench.registering = trusting_registered_model

    assert came_through(workbench, attempt) == ["registered"]
