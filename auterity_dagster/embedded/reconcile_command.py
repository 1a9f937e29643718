"""`auterity ledger reconcile`: compare an organization's ledger with a provider's bill file, and book what it says."""

from datetime import date
from pathlib import Path
from uuid import UUID

from auterity_dagster.embedded.announcement import require_running
from auterity_dagster.errors import Invalid
from auterity_dagster.settings import UpSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.reconciliations import Bill, bill_from, book
from auterity_dagster.storage.tables.ledger import ReconciliationRow


def bill_of(path: Path, *, provider: str, since: date | None, until: date | None) -> Bill:
    """Read a bill; its days are those that its lines name, or those given. Raises `Invalid`."""
    text, is_csv = path.read_text(encoding="utf-8"), path.suffix.lower() == ".csv"
    try:
        return bill_from(text, is_csv=is_csv, provider=provider, since=since, until=until)
    except Invalid as error:
        raise Invalid(f"{error.message} (--from and --to name the days of a bill whose lines name none)") from error


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
