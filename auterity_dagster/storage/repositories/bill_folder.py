"""Providers' bills in a folder: each file compared once with its organization's ledger, and booked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

from sqlalchemy import select

from auterity_dagster.errors import Invalid
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.reconciliations import bill_from, book, is_booked
from auterity_dagster.storage.tables.identity import OrganizationRow
from auterity_dagster.storage.tables.ledger import ReconciliationRow

SUFFIXES = (".csv", ".jsonl")
LARGEST_BYTES = 64 * 1024 * 1024
_DAYS = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{4}-\d{2}-\d{2})")
"""In the name of a file whose lines name no days: the first and the last one that it covers."""


@dataclass(frozen=True, slots=True)
class BillPath:
    """`<organization>/<provider>/<name>.csv` or `.jsonl` in the folder."""

    path: Path
    organization_id: UUID
    provider: str


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What was booked now, how many files were before, and why others could not be read, by their place."""

    booked: tuple[ReconciliationRow, ...]
    known_files: int
    unread: dict[str, str]


def reconcile_folder(database: BlockingDatabase, folder: Path) -> FolderResult:
    """Book every bill that was not booked yet, each in a transaction of its own; one that is wrong stops no other."""
    booked: list[ReconciliationRow] = []
    unread: dict[str, str] = {}
    known = 0
    for path in _files(folder):
        try:
            row = _reconciled(database, _placed(path, folder))
        except Invalid as error:
            unread[str(path.relative_to(folder))] = error.message
            continue
        if row is None:
            known += 1
        else:
            booked.append(row)
    return FolderResult(tuple(booked), known, unread)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix.lower() in SUFFIXES)


def _placed(path: Path, folder: Path) -> BillPath:
    parts = path.relative_to(folder).parts
    try:
        organization, provider, _ = parts
        return BillPath(path, UUID(organization), provider)
    except ValueError as error:
        raise Invalid("A bill lies in <organization's id>/<provider>/") from error


def _reconciled(database: BlockingDatabase, bill_path: BillPath) -> ReconciliationRow | None:
    if bill_path.path.stat().st_size > LARGEST_BYTES:
        raise Invalid(f"The bill is larger than {LARGEST_BYTES} bytes: split it by days")
    try:
        text = bill_path.path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("The bill is not UTF-8") from error
    since, until = _days(bill_path.path.stem)
    is_csv = bill_path.path.suffix.lower() == ".csv"
    bill = bill_from(text, is_csv=is_csv, provider=bill_path.provider, since=since, until=until)
    with database.begin(bill_path.organization_id) as session:
        if session.scalar(select(OrganizationRow.id).where(OrganizationRow.id == bill_path.organization_id)) is None:
            raise Invalid("There is no such organization")
        return None if is_booked(session, bill.provider, bill.digest) else book(session, bill)


def _days(name: str) -> tuple[date | None, date | None]:
    found = _DAYS.search(name)
    if found is None:
        return None, None
    try:
        return date.fromisoformat(found[1]), date.fromisoformat(found[2])
    except ValueError as error:
        raise Invalid("The days in the bill's name are none") from error
