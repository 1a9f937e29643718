"""Bills in the data folder, materialised: booked once, counted, and what is wrong with a file said without its text."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import psycopg
import pytest

from auterity_dagster.assets.relaycore.bills import reconciliations
from auterity_dagster.definitions import models
from auterity_dagster.relaycore.ports import Settlement
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.conftest import DatabaseUrls
from tests.fakes.ledger_requests import hold_request, usage_record

ORGANIZATION = UUID(int=71)


def materialised(urls: DatabaseUrls, folder: Path) -> tuple[dict[str, object], dict[str, dg.AssetCheckEvaluation]]:
    installation = {"secrets_dir": "", "config_dir": "", "gateway_url": "", "model_server_url": "", "mlflow_url": ""}
    resources = {
        "database": DatabaseResource(url=urls.application),
        "installation": InstallationResource(data_dir=str(folder), **installation),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([reconciliations], resources=resources, instance=instance)
    (event,) = run.asset_materializations_for_node("reconciliations")
    metadata: dict[str, object] = {name: value.value for name, value in event.metadata.items()}
    return metadata, {one.check_name: one for one in run.get_asset_check_evaluations()}


@pytest.fixture
async def spent(database_urls: DatabaseUrls) -> None:
    """One settled call of 400 and one that nobody knows of, held at 1,000 nano-dollars."""
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("INSERT INTO organization (id, name) VALUES (%s, 'ours')", (ORGANIZATION,))
    async with open_ledger(database_urls.application) as ledger:
        settled = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=500))
        await ledger.settle(Settlement(settled, 400, usage_record()))
        unknown = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1_000))
        await ledger.leave_unknown(unknown, usage_record("timeout"))


def accounts(urls: DatabaseUrls) -> dict[str, int]:
    with psycopg.connect(urls.owner) as connection:
        rows = connection.execute("SELECT account, sum(amount_nusd)::bigint FROM entry GROUP BY account").fetchall()
    return {account: amount for account, amount in rows if amount}


def put(folder: Path, place: str, text: str) -> None:
    path = folder / "bills" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_bills_are_booked_once_and_a_wrong_one_stops_no_other(
    spent: None, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    rows = f"day,model,cost_nusd\n{today},sandbox-large,650\n{today},sandbox-large,50\n"
    put(tmp_path, f"{ORGANIZATION}/sandbox/today.csv", rows)
    put(tmp_path, f"{ORGANIZATION}/sandbox/broken.jsonl", '{"id": "a secret of the bill"')
    put(tmp_path, f"{ORGANIZATION}/sandbox/undated.jsonl", '{"id": "other", "cost_nusd": 1}')
    put(tmp_path, f"{uuid4()}/sandbox/today.csv", rows)
    put(tmp_path, "elsewhere/today.csv", rows)
    put(tmp_path, "notes.txt", "not a bill")

    first, checks = materialised(database_urls, tmp_path)
    again, _ = materialised(database_urls, tmp_path)

    assert first == {
        "bills": 1,
        "bills_known_before": 0,
        "rows": 2,
        "matched": 0,
        "unmatched": 2,
        "corrections": 1,
        "corrected_nusd": -700,
        "differences": 0,
    }
    assert accounts(database_urls) == {"spend": 700, "payable:sandbox/large": -700}
    assert (again["bills"], again["bills_known_before"], again["corrected_nusd"]) == (0, 1, 0)
    unread = checks["every_bill_was_read"]
    assert (unread.passed, len(unread.metadata)) == (False, 4)
    assert "secret" not in str(unread.metadata)
    assert checks["nothing_is_unexplained"].passed


async def test_a_bill_by_request_without_days_takes_them_from_its_name(
    spent: None, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    lines = '{"id": "sandbox-1", "cost_nusd": 450}\n{"id": "nobody-knows", "cost_nusd": 5}\n'
    put(tmp_path, f"{ORGANIZATION}/sandbox/bill_{today}_{today}.jsonl", lines)

    found, checks = materialised(database_urls, tmp_path)

    assert (found["rows"], found["matched"], found["unmatched"], found["differences"]) == (2, 1, 1, 1)
    assert not checks["nothing_is_unexplained"].passed


def test_a_day_without_bills_is_no_failure(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    found, checks = materialised(database_urls, tmp_path)

    assert set(found.values()) == {0}
    assert all(one.passed for one in checks.values())


def test_it_runs_every_day_before_the_usage_is_added_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTERITY_DATA_DIR", str(tmp_path))
    schedule = models().get_repository_def().get_schedule_def("daily_reconciliation")

    assert (schedule.cron_schedule, schedule.job_name) == ("0 0 * * *", "rc_reconciliation")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
