"""Closing the books of a run: what died is reaped, and the provider's bill is reconciled."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from auterity_dagster.relaycore.bill_file import read_bill
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.ledger import LedgerSettings, open_ledger
from auterity_dagster.storage.repositories.reconciliations import Bill, book

PATIENT = LedgerSettings(connect_within_s=30, answer_within_s=60, reap_every_s=3600, drain_within_s=120)


async def reap_all(owner_url: str, application_url: str) -> None:
    """Let time pass until every hold that is still open has expired, and let a reaper close them."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("UPDATE hold SET expires_at = now() - interval '1 s' WHERE state = 'held'")
    async with open_ledger(application_url, PATIENT) as ledger:
        while await ledger.reap():
            pass


def reconcile_bill(
    owner_url: str, application_url: str, organization_id: UUID, lines: Sequence[Mapping[str, Any]]
) -> int:
    """Book a bill as `auterity ledger reconcile` does; return how many differences nobody can explain."""
    text = "\n".join(json.dumps(line) for line in lines)
    with psycopg.connect(owner_url) as connection:
        row = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()
    assert row is not None
    digest = hashlib.sha256(text.encode()).hexdigest()
    bill = Bill("sandbox", row[0] - timedelta(days=1), row[0], digest, read_bill(text.splitlines(), is_csv=False))
    database = BlockingDatabase(application_url)
    try:
        with database.begin(organization_id) as session:
            return book(session, bill).differences
    finally:
        database.close()
