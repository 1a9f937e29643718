"""`auterity ledger reconcile` from a file to the books, and a dry run that books nothing."""

from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from typer.testing import CliRunner

from auterity_dagster.cli import app
from auterity_dagster.storage.repositories.ledger import open_ledger
from tests.fakes.ledger_requests import hold_request, usage_record

ORGANIZATION = uuid4()
BILL = '{"id": "sandbox-1", "model": "sandbox-large", "cost_nusd": 300}\n{"id": "other", "cost_usd": "0.01"}\n'


def spend(database_urls) -> int:
    with psycopg.connect(database_urls.owner) as connection:
        row = connection.execute("SELECT sum(amount_nusd) FROM entry WHERE account = 'spend'").fetchone()
    assert row is not None
    return int(row[0] or 0)


async def test_a_bill_file_is_compared_and_booked(
    database_urls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("INSERT INTO organization (id, name) VALUES (%s, 'ours')", (ORGANIZATION,))
        [[today]] = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date::text").fetchall()
    async with open_ledger(database_urls.application) as ledger:
        hold = await ledger.hold(hold_request(ORGANIZATION, amount_nusd=1000))
        await ledger.leave_unknown(hold, usage_record("timeout"))
    bill = tmp_path / "bill.jsonl"
    bill.write_text(BILL)
    monkeypatch.setenv("AUTERITY_DATABASE_URL", database_urls.application)
    command = ["ledger", "reconcile", "--bill", str(bill), "--organization", str(ORGANIZATION)]
    command += ["--provider", "sandbox", "--from", today, "--to", today]

    tried = CliRunner().invoke(app, [*command, "--dry-run"])
    after_trial = spend(database_urls)
    booked = CliRunner().invoke(app, command)

    assert (tried.exit_code, booked.exit_code) == (0, 0)
    assert "2 lines, 1 of them by request; billed $0.0100003" in tried.output
    assert "1 holds to correct: $-0.0000007" in tried.output
    assert '"kind": "not_in_ledger", "provider_request_id": "other"' in booked.output
    assert (after_trial, spend(database_urls)) == (0, 300)


async def test_a_bill_without_days_needs_them_named(database_urls, tmp_path: Path) -> None:
    bill = tmp_path / "bill.jsonl"
    bill.write_text(BILL)

    refused = CliRunner().invoke(
        app, ["ledger", "reconcile", "--bill", str(bill), "--organization", str(ORGANIZATION), "--provider", "sandbox"]
    )

    assert refused.exit_code == 1
    assert "--from" in refused.output
