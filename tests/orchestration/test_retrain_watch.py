"""Reasons to train that nobody has to notice: rows that grew and a base that changed; once, and for the asked money."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import psycopg
import pytest
from ruamel.yaml import YAML
from sqlalchemy import insert

from auterity_dagster.errors import BudgetExceeded
from auterity_dagster.neuroweaver.retraining import rows_wanted
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_ledger import machine_time
from auterity_dagster.sensors.neuroweaver import training_requests
from auterity_dagster.sensors.neuroweaver_requests import retrain_watch
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.repositories import retrain_requests, training_budgets
from auterity_dagster.storage.repositories.dataset_versions import NewVersion, record_version
from auterity_dagster.storage.tables.datasets import ConsentRow
from auterity_dagster.storage.tables.specialisation import RetrainRequestRow, ServingStateRow
from auterity_dagster.storage.tables.workflows import ExecutionRow, StepResultRow, WorkflowRow, WorkflowVersionRow
from tests.conftest import DatabaseUrls
from tests.storage.hostile_adapters import stored
from tests.storage.serving_scopes import SCOPE, new_scope

CONFIG = Path(__file__).parents[2] / "config"
DEALERSHIP, CONSENT = UUID(int=2), UUID(int=3)
DOLLAR = 1_000_000_000
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = {"dealership": "Harbor", "facts": "- hours: 9 to 5", "customer": "Ada"}


@dataclass(frozen=True)
class Workplace:
    """A scope that serves an adapter of the recipe `tiny_cpu`, and a folder of recipes of its own."""

    database: BlockingDatabase
    url: str
    owner_url: str
    organization_id: UUID
    installation: InstallationResource

    def look(self) -> str:
        resources = {"database": DatabaseResource(url=self.url), "installation": self.installation}
        told = retrain_watch.evaluate_tick(dg.build_sensor_context(resources=resources)).skip_message
        return told or ""

    def requests(self) -> list[RetrainRequestRow]:
        with self.database.begin(self.organization_id) as session:
            return list(retrain_requests.list_requests(session, before=None, limit=10))

    def end_requests(self) -> None:
        with self.database.begin(self.organization_id) as session:
            for row in retrain_requests.open_requests(session):
                retrain_requests.start_request(session, row.id)
                retrain_requests.end_request(session, row.id, state="finished", run_id="r", now=datetime.now(UTC))

    def change_base(self, sha256: str) -> None:
        path = Path(self.installation.config_dir) / "recipes" / "tiny_cpu.yaml"
        yaml = YAML(typ="safe", pure=True)
        recipe = yaml.load(path.read_text())
        recipe["base"]["sha256"] = sha256
        with path.open("w") as file:
            yaml.dump(recipe, file)

    def keep_version(self, rows: int, consents: Iterable[UUID]) -> None:
        new = NewVersion(self.organization_id, SCOPE, f"d{rows}", "r", rows, {}, tuple(consents), None, "p")
        with self.database.begin(self.organization_id) as session:
            record_version(session, new)
        with psycopg.connect(self.owner_url) as connection:
            connection.execute("UPDATE dataset_version SET created_at = %s", [LONG_AGO])

    def agree(self) -> None:
        with self.database.begin(self.organization_id) as session:
            consent = ConsentRow(
                organization_id=self.organization_id,
                id=CONSENT,
                dealership_id=DEALERSHIP,
                text_version="2026-08",
                given_by=UUID(int=9),
            )
            session.add(consent)

    def answer_leads(self, count: int, *, at: datetime) -> None:
        """What workflows asked and sent: so many executions that ended well, each with one answered prompt."""
        own, workflow_id, version_id = self.organization_id, uuid4(), uuid4()
        executions = [
            {
                "organization_id": own, "id": uuid4(), "dealership_id": DEALERSHIP, "workflow_id": workflow_id,
                "version_id": version_id, "job": "j", "lane": "batch", "subject": f"s{number}",
                "idempotency_key": str(number), "state": "succeeded", "ready_at": at, "fence": 0,
                "event": {"data": {}}, "variables": {}, "is_cancel_requested": False, "received_at": at,
                "deadline_at": at, "created_at": at, "depth": 0, "is_awaited": False,
            }
            for number in range(count)
        ]  # fmt: skip
        steps = [
            {
                "organization_id": own, "execution_id": one["id"], "path": "ask", "attempt": 1, "kind": "ai_prompt",
                "state": "succeeded", "starts": 1, "fence": 0, "started_at": at,
                "output": {
                    "prompt": {"key": "lead_reply", "values": VALUES | {"question": f"Is number {number} here?"}},
                    "reply": "Yes. Could you come in on Saturday?",
                },
            }
            for number, one in enumerate(executions)
        ]  # fmt: skip
        with self.database.begin(own) as session:
            session.add(
                WorkflowRow(
                    organization_id=own, id=workflow_id, key=f"k{count}", name="n", state="active", variables={},
                    template_key=None, active_version_id=None, created_at=at,
                )
            )  # fmt: skip
            session.flush()
            session.add(
                WorkflowVersionRow(
                    organization_id=own, id=version_id, workflow_id=workflow_id, number=1, digest="d",
                    graph_digest="g", job="j", definition={}, note="", published_by=None, published_at=at,
                )
            )  # fmt: skip
            session.flush()
            session.execute(insert(ExecutionRow), executions)
            session.execute(insert(StepResultRow), steps)


@pytest.fixture
def workplace(blocking_database: BlockingDatabase, database_urls: DatabaseUrls, tmp_path: Path) -> Workplace:
    scope = new_scope(blocking_database)
    config = tmp_path / "config"
    for name in ("recipes", "prompts"):
        (config / name).mkdir(parents=True)
        for path in (CONFIG / name).glob("*.yaml"):
            (config / name / path.name).write_text(path.read_text())
    store = ObjectStore(tmp_path / "objects")
    recipe = YAML(typ="safe", pure=True).load((CONFIG / "recipes" / "tiny_cpu.yaml").read_text())
    origin = {"id": recipe["base"]["id"], "sha256": recipe["base"]["sha256"]}
    base = stored(store, {"origin.json": json.dumps(origin).encode()})
    adapter = stored(store, {"card.json": json.dumps({"recipe": "tiny_cpu", "base": base}).encode()})
    with blocking_database.begin(scope.organization_id) as session:
        session.add(
            ServingStateRow(
                organization_id=scope.organization_id,
                scope=SCOPE,
                current_digest=adapter,
                sequence=1,
                challenger_percent=0,
                projected_sequence=1,
            )
        )
    installation = InstallationResource(
        data_dir=str(tmp_path),
        secrets_dir=str(tmp_path),
        config_dir=str(config),
        gateway_url="http://127.0.0.1:1",
        model_server_url="http://127.0.0.1:1",
        mlflow_url="http://127.0.0.1:1",
    )
    return Workplace(
        blocking_database, database_urls.application, database_urls.owner, scope.organization_id, installation
    )


@pytest.mark.parametrize(("last_rows", "wanted"), [(0, 500), (5000, 500), (5001, 501), (40_000, 4000)])
def test_new_rows_are_enough_if_they_are_many_and_a_tenth(last_rows: int, wanted: int) -> None:
    assert rows_wanted(last_rows=last_rows) == wanted


def test_a_changed_base_asks_once_and_again_only_after_the_cool_down(workplace: Workplace) -> None:
    unchanged = workplace.look()
    workplace.change_base("f" * 64)
    first, second = workplace.look(), workplace.look()
    [request] = workplace.requests()
    workplace.end_requests()
    in_the_cool_down = workplace.look()

    assert (unchanged, first, second, in_the_cool_down) == (
        "no reason to train",
        f"{SCOPE}: base_changed",
        "no reason to train",
        "no reason to train",
    )
    assert (request.reason, request.recipe, request.opened_by) == ("base_changed", "tiny_cpu", "automation")
    assert request.evidence["to_sha256"] == "f" * 64


def test_rows_that_grew_ask_if_people_agreed_to_their_use(workplace: Workplace) -> None:
    workplace.keep_version(4000, [CONSENT])
    workplace.answer_leads(500, at=datetime.now(UTC) - timedelta(hours=1))
    without_consent = workplace.look()
    workplace.agree()
    asked = workplace.look()

    assert without_consent == "no reason to train"
    assert asked == f"{SCOPE}: new_rows, 500"
    [request] = workplace.requests()
    assert request.evidence == {"new_rows": 500, "last_version": 1, "last_rows": 4000}


def test_rows_that_the_last_version_had_do_not_count(workplace: Workplace) -> None:
    workplace.agree()
    workplace.keep_version(600, [CONSENT])
    workplace.answer_leads(500, at=LONG_AGO - timedelta(days=1))

    assert workplace.look() == "no reason to train"


def test_a_run_may_spend_what_its_request_says_and_the_ledger_refuses_the_rest(
    workplace: Workplace, database_urls: DatabaseUrls
) -> None:
    own = workplace.organization_id
    with workplace.database.begin(own) as session:
        request = retrain_requests.open_request(
            session,
            retrain_requests.NewRequest(own, SCOPE, "person", {}, 2 * DOLLAR, "tiny_cpu", {}, "somebody"),
            now=datetime.now(UTC),
        )
        request_id = request.id
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, resources={"database": DatabaseResource(url=workplace.url)}
        )
        [run] = list(training_requests.evaluate_tick(context).run_requests or ())
    given = run.run_config["resources"]["candidate"]["config"]
    candidate = CandidateResource(**given, config_dir=workplace.installation.config_dir)
    budget = candidate.budget()
    machines_nusd = budget.cap_nusd - budget.judge_cap_nusd

    def room() -> int:
        with workplace.database.begin(own) as session:
            return training_budgets.room(session, own, request_id, cap_nusd=machines_nusd)

    def train(*, hours: int, used_s: int) -> None:
        with machine_time(
            database_urls.application,
            organization_id=own,
            device_class="cuda-80g",
            stage_key="a" * 64,
            nusd_per_hour=machines_nusd // 2,
            cap_s=hours * 3600,
            allowance=training_budgets.allowance(request_id),
        ) as machine:
            machine.seconds += used_s

    whole = room()
    train(hours=2, used_s=3600)
    half = room()
    with pytest.raises(BudgetExceeded, match="Training run"):
        train(hours=2, used_s=1)
    train(hours=1, used_s=1800)

    assert (given["training_request"], given["budget_usd"]) == (str(request_id), "2.00")
    assert budget.cap_nusd == min(2 * DOLLAR, candidate.read_recipe().budget.cap_nusd)
    assert whole == machines_nusd
    assert half == pytest.approx(machines_nusd / 2, abs=2)
    assert room() == pytest.approx(machines_nusd / 4, abs=2)
