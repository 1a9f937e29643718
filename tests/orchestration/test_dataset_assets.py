"""The assets that make a dataset: an organization's files go in, checks that fail say which rows."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import UUID

import dagster as dg
import pytest

from auterity_dagster.assets.neuroweaver import data, dataset
from auterity_dagster.clock import SystemClock
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.documents import DocumentIOManager
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.tables.datasets import ConsentRow
from tests.conftest import DatabaseUrls

CONFIG = Path(__file__).parents[2] / "config"
CONSENT, REVOKED = UUID(int=3), UUID(int=4)
DEALERSHIP = UUID(int=2)
ASSETS = [data.evaluation_suites, dataset.source_rows, dataset.training_examples]
CHAT = [
    {"role": "system", "content": "You are the assistant."},
    {"role": "user", "content": "Is the blue one here? Ana Teague, (312) 555-0141"},
    {"role": "assistant", "content": "Yes Ana, it is here. Can you come in on Saturday to see it?"},
]


class Workplace:
    def __init__(self, folder: Path, urls: DatabaseUrls, database: BlockingDatabase) -> None:
        self.folder, self.urls, self.database = folder, urls, database
        self.organization_id = create_organization(
            database,
            name="Harbor Group",
            owner_email="owner@example.com",
            owner_password="a long enough passphrase",
            pepper=bytes.fromhex("ab" * 32),
            clock=SystemClock(),
        ).organization_id
        self.agree(CONSENT)
        secrets = folder / "secrets"
        secrets.mkdir()
        (secrets / "pepper").write_text("ab" * 32)
        (secrets / "pepper").chmod(0o600)
        self.installation = InstallationResource(
            data_dir=str(folder),
            secrets_dir=str(secrets),
            config_dir=str(CONFIG),
            gateway_url="http://127.0.0.1:1",
            model_server_url="http://127.0.0.1:1",
            mlflow_url=f"sqlite:///{folder}/mlflow.db",
        )

    def run(self, **candidate: str) -> dg.ExecuteInProcessResult:
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(
                ASSETS,
                instance=instance,
                raise_on_error=False,
                resources={
                    "candidate": CandidateResource(
                        organization_id=str(self.organization_id),
                        recipe="tiny_cpu",
                        conversations=200,
                        config_dir=str(CONFIG),
                        dealership_id=str(DEALERSHIP),
                        **candidate,
                    ),
                    "database": DatabaseResource(url=self.urls.application),
                    "installation": self.installation,
                    "io_manager": DocumentIOManager(data_dir=str(self.folder)),
                },
            )

    def agree(self, consent_id: UUID, *, revoked_at: datetime | None = None) -> None:
        by = None if revoked_at is None else UUID(int=8)
        with self.database.begin(self.organization_id) as session:
            session.add(
                ConsentRow(
                    organization_id=self.organization_id,
                    id=consent_id,
                    dealership_id=DEALERSHIP,
                    text_version="2026-08",
                    given_by=UUID(int=9),
                    revoked_by=by,
                    revoked_at=revoked_at,
                )
            )

    def write(self, name: str, lines: Sequence[object]) -> str:
        path = self.folder / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return str(path)


@pytest.fixture
def workplace(tmp_path: Path, database_urls: DatabaseUrls, blocking_database: BlockingDatabase) -> Workplace:
    return Workplace(tmp_path, database_urls, blocking_database)


def checks(result: dg.ExecuteInProcessResult) -> Mapping[tuple[str, str], dg.AssetCheckEvaluation]:
    found = result.get_asset_check_evaluations()
    return {(one.asset_key.path[-1], one.check_name): one for one in found}


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> Mapping[str, dg.MetadataValue]:
    return result.asset_materializations_for_node(asset)[0].metadata


def chats(count: int, **changes: object) -> list[object]:
    return [
        {
            "messages": [CHAT[0], {"role": "user", "content": f"{CHAT[1]['content']} stock A{at}77"}, CHAT[2]],
            "customer": f"customer {at}",
            "family": "lead_reply",
            "names": ["Ana Teague"],
            **changes,
        }
        for at in range(count)
    ]


def test_an_organizations_chats_become_scrubbed_examples(workplace: Workplace) -> None:
    result = workplace.run(dataset=workplace.write("chats.jsonl", chats(40)), consent_id=str(CONSENT))

    assert result.success
    assert all(one.passed for one in checks(result).values())
    assert len(checks(result)) == 8
    assert metadata(result, "source_rows")["imported"].value == 40
    document = result.output_for_node("training_examples")
    rows = workplace.installation.store.read_verified(document.rows).decode()
    assert '"source":"import_jsonl"' in rows
    assert "555-0141" not in rows
    assert "Teague" not in rows
    assert "<NAME_1>" in rows


def test_a_csv_export_needs_its_mapping(workplace: Workplace) -> None:
    export = workplace.folder / "export.csv"
    lines = [
        f"t{at},c{at},{role},{text} {at},2026-11-02 09:0{minute}"
        for at in range(30)
        for role, text, minute in (
            ("customer", "is the car here number", 1),
            ("agent", "Yes it is. Can you come in for number", 2),
        )
    ]
    export.write_text("\n".join(["thread,customer,who,body,at", *lines]))
    mapping = workplace.folder / "mapping.yaml"
    mapping.write_text(
        "{conversation: thread, customer: customer, role: who, text: body, sent_at: at, zone: America/Chicago,"
        " family: lead_reply, system: You are the assistant.}"
    )

    result = workplace.run(dataset=str(export), dataset_mapping=str(mapping), consent_id=str(CONSENT))

    assert result.success
    assert metadata(result, "source_rows")["imported"].value == 30


def test_a_file_with_too_many_wrong_lines_fails_the_asset_with_line_and_reason(workplace: Workplace) -> None:
    path = workplace.write("chats.jsonl", [*chats(5), {"messages": []}])

    result = workplace.run(dataset=path, consent_id=str(CONSENT))

    failed = [event.step_failure_data.user_failure_data for event in result.all_node_events if event.is_step_failure]
    assert not result.success
    assert "chats.jsonl line 6: " in str(failed)


def test_personal_data_that_is_left_blocks_and_the_check_names_the_row_and_no_value(workplace: Workplace) -> None:
    hidden = [
        *chats(20),
        *chats(1, customer="x", messages=[CHAT[0], {"role": "user", "content": "ring 312 - 555 - 0142"}, CHAT[2]]),
    ]

    result = workplace.run(dataset=workplace.write("chats.jsonl", hidden), consent_id=str(CONSENT))

    failed = checks(result)["training_examples", "pii_residual_zero"]
    assert not failed.passed
    assert failed.metadata["rows"].value == 1
    (first,) = cast(list[dict[str, str]], failed.metadata["first"].value)
    assert first["kind"] == "phone"
    assert len(first["row"]) == 64
    assert "555" not in str(failed.metadata)


@pytest.mark.parametrize("consent_id", [REVOKED, UUID(int=5)], ids=["revoked", "unknown"])
def test_rows_without_a_consent_in_force_are_counted_and_block(workplace: Workplace, consent_id: UUID) -> None:
    workplace.agree(REVOKED, revoked_at=datetime(2026, 11, 1, tzinfo=UTC))

    result = workplace.run(dataset=workplace.write("chats.jsonl", chats(20)), consent_id=str(consent_id))

    failed = checks(result)["source_rows", "consent_present"]
    assert not failed.passed
    assert failed.metadata["kinds"].value == {"no_consent": 20}
    assert not result.asset_materializations_for_node("training_examples")
