"""Reports by Evidently: a dataset against the version before, a day of traffic against the week before it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import dagster as dg
import pytest
from sqlalchemy import insert
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from auterity_dagster.assets.neuroweaver.dataset_report import dataset_report
from auterity_dagster.assets.neuroweaver.documents import Dataset, Document, StageArtefact, handed
from auterity_dagster.assets.neuroweaver.live_quality import live_quality
from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.example import TrainingExample, example_id
from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.preparation.prepare import PreparationPolicy, prepare
from auterity_dagster.prompt import load_prompts
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.documents import DocumentIOManager
from auterity_dagster.resources.evidently_report import evidently_report
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.repositories import retrain_requests
from auterity_dagster.storage.tables.routing import RequestRow
from tests.conftest import DatabaseUrls
from tests.fakes.usage_rows import usage_row
from tests.storage.serving_scopes import Scope, new_scope

CONFIG = Path(__file__).parents[2] / "config"
POLICY = PreparationPolicy(salt="s", key=b"k", min_train_rows=10, min_family_rows=2)


def upstream(name: str, document: Document) -> dg.AssetsDefinition:
    @dg.asset(name=name, dagster_type=handed(type(document)))
    def made() -> dg.MaterializeResult:
        return dg.MaterializeResult(value=document)

    return made


def base(store: ObjectStore, folder: Path) -> StageArtefact:
    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{% for one in messages %}x {{ one.content }} {% endfor %}")
    digest = store.put_bundle(folder)
    return StageArtefact(digest=digest, stage_key="k", mlflow_run_id=None, metrics={}, facts={}, is_reused=False)


def dataset(store: ObjectStore, rows: Sequence[TrainingExample]) -> Dataset:
    prepared = prepare(rows, items=(), policy=POLICY, names={}, previous_splits={})
    digest = store.put_bytes(canonical_lines(prepared.rows))
    return Dataset(
        card=prepared.card,
        rows=digest,
        train=digest,
        validation=digest,
        train_rows=1,
        contaminated=0,
        consent_ids=(UUID(int=3),),
    )


def test_a_dataset_is_numbered_and_compared_with_the_version_before(
    tmp_path: Path, database_urls: DatabaseUrls, blocking_database: BlockingDatabase
) -> None:
    organization_id = new_scope(blocking_database).organization_id
    installation = installed(tmp_path)
    model = base(installation.store, tmp_path / "base")
    rows = generate(load_prompts(CONFIG / "prompts"), seed=1, conversations=560, customers=190).rows

    def reported(examples: Sequence[TrainingExample]) -> tuple[Mapping[str, dg.MetadataValue], dg.AssetCheckEvaluation]:
        document = dataset(installation.store, examples)
        result = dg.materialize(
            [upstream("base_model", model), upstream("training_examples", document), dataset_report],
            instance=dg.DagsterInstance.ephemeral(),
            resources={
                "candidate": CandidateResource(organization_id=str(organization_id), recipe="tiny_cpu"),
                "database": DatabaseResource(url=database_urls.application),
                "installation": installation,
                "io_manager": DocumentIOManager(data_dir=str(tmp_path)),
            },
        )
        [check] = result.get_asset_check_evaluations()
        return result.asset_materializations_for_node("dataset_report")[0].metadata, check

    first, first_check = reported(rows)
    changed, drifted = reported([longer(row) for row in rows])
    again, _ = reported([longer(row) for row in rows])

    assert (first["version"].value, first["compared_with"].value, first_check.passed) == (1, "nothing", True)
    assert (changed["version"].value, changed["compared_with"].value) == (2, "version 1")
    assert again["version"].value == 2
    assert not drifted.passed
    assert "prompt_words" in str(drifted.metadata["columns"].value)
    assert "family" not in str(drifted.metadata["columns"].value)
    page = Path(str(changed["page"].value)).read_text()
    assert "prompt_words" in page
    tokens = cast(Mapping[str, Mapping[str, int]], first["tokens"].value)
    assert tokens["row_tokens"]["p50"] > tokens["answer_tokens"]["p50"] > 5


def installed(folder: Path) -> InstallationResource:
    return InstallationResource(
        data_dir=str(folder),
        secrets_dir=str(folder),
        config_dir=str(CONFIG),
        gateway_url="http://127.0.0.1:1",
        model_server_url="http://127.0.0.1:1",
        mlflow_url="http://127.0.0.1:1",
    )


def longer(row: TrainingExample) -> TrainingExample:
    messages = list(row.messages)
    messages[1] = messages[1].model_copy(update={"content": f"{messages[1].content}\n{'and so on ' * 40}"})
    return row.model_copy(update={"messages": tuple(messages), "example_id": example_id(messages, None)})


def test_a_p_value_compared_with_a_limit_passes_what_the_index_finds() -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.tests import lte
    from pandas import DataFrame

    before = {"words": [float(at % 40) for at in range(600)]}
    after = {"words": [float(at % 40 + 30) for at in range(600)]}

    drift = evidently_report(after, before).drift
    definition = DataDefinition(numerical_columns=["words"])
    now, then = (Dataset.from_pandas(DataFrame(side), definition) for side in (after, before))
    by_default = Report([ValueDrift(column="words", tests=[lte(0.1)])]).run(now, then).dict()

    assert drift is not None
    assert drift.drifted == ("words",)
    assert by_default["tests"][0]["status"].value == "SUCCESS"


@pytest.mark.parametrize("rows", [1, 40])
def test_a_report_can_be_made_of_little(rows: int) -> None:
    features = {"words": [3.0] * rows, "family": ["lead_reply"] * rows}

    report = evidently_report(features, {"words": [2.0] * rows, "gone": ["x"] * rows})

    assert report.drift is not None
    assert set(report.drift.psi) == {"words"}
    assert not report.drift.is_conclusive


DAY = date(2026, 11, 20)
A_DAYS_REQUESTS = 600


def answered(scope: Scope, day: date, *, prompt_tokens: int) -> None:
    """Six hundred requests of one day, of about this length."""
    rows = [
        {
            "organization_id": scope.organization_id,
            "day": day,
            "id": uuid4(),
            "key_id": scope.organization_id,
            "purpose": "workflow",
            "task": "lead_reply",
            "model": "auto",
            "is_stream": False,
            "policy_digest": "p",
            "decision": {},
            "deployment_id": "sandbox-small",
            "attempts": [],
            "outcome": "ok",
            "prompt_tokens": prompt_tokens + number % 40,
            "completion_tokens": 20 + number % 9,
            "cost_nusd": 1,
            "latency_ms": 100 + number % 50,
            "received_at": datetime.combine(day, time(12), tzinfo=UTC),
        }
        for number in range(A_DAYS_REQUESTS)
    ]
    with scope.database.begin(scope.organization_id) as session:
        session.execute(insert(RequestRow), rows)
        session.add(usage_row(scope.organization_id, day))


def test_two_days_of_drift_ask_for_training_once_and_one_day_does_not(
    tmp_path: Path, database_urls: DatabaseUrls, blocking_database: BlockingDatabase
) -> None:
    scope = new_scope(blocking_database)
    scope.release("a")
    scope.switch(None, "a", key="1")
    for back in range(4, 1, -1):
        answered(scope, DAY - timedelta(days=back), prompt_tokens=100)
    for back in (1, 0):
        answered(scope, DAY - timedelta(days=back), prompt_tokens=300)

    resources = {"installation": installed(tmp_path), "database": DatabaseResource(url=database_urls.application)}

    def looked(day: date) -> dg.AssetCheckEvaluation:
        result = dg.materialize(
            [live_quality], partition_key=str(day), instance=dg.DagsterInstance.ephemeral(), resources=resources
        )
        [check] = result.get_asset_check_evaluations()
        return check

    def asked() -> list[str]:
        with scope.database.begin(scope.organization_id) as session:
            return [row.reason for row in retrain_requests.open_requests(session)]

    first = (looked(DAY - timedelta(days=1)).passed, asked())
    second = looked(DAY)
    again = looked(DAY)

    assert first == (True, [])
    assert (second.passed, again.passed) == (False, False)
    assert "prompt_tokens" in str(second.metadata["drifted"].value)
    assert asked() == ["drift"]
