"""`auterity ledger reconcile`: compare an organization's ledger with a provider's bill file, and book what it says."""

import hashlib
from datetime import date
from pathlib import Path
from uuid import UUID

from auterity_dagster.embedded.announcement import require_running
from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.bill_file import read_bill
from auterity_dagster.settings import UpSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.reconciliations import Bill, book
from auterity_dagster.storage.tables.ledger import ReconciliationRow


def bill_of(path: Path, *, provider: str, since: date | None, until: date | None) -> Bill:
    """Read a bill; its days are those that its lines name, or those given. Raises `Invalid`."""
    text = path.read_text(encoding="utf-8")
    lines = read_bill(text.splitlines(), is_csv=path.suffix.lower() == ".csv")
    days = [line.day for line in lines if line.day is not None]
    since, until = since or min(days, default=None), until or max(days, default=None)
    if since is None or until is None:
        raise Invalid("The bill's lines name no days: say which ones it covers with --from and --to")
    return Bill(provider, since, until, hashlib.sha256(text.encode()).hexdigest(), lines)


def reconcile(settings: UpSettings, *, organization_id: UUID, bill: Bill, is_dry_run: bool) -> ReconciliationRow:
    """Book the bill in the database of the environment, or of the running `auterity up`; a dry run undoes it."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    else:
        url = require_running(settings.data_dir).environment()["AUTERITY_DATABASE_URL"]
    database = BlockingDatabase(url)
    try:
        with database.begin(organization_id) as session:
            row = book(session, bill)
            if is_dry_run:
                session.expunge(row)
                session.get_transaction().rollback()  # pyright: ignore[reportOptionalMemberAccess]
            return row
    finally:
        database.close()
