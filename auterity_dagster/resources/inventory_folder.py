"""A folder into which dealers' systems put their stock: one CSV file a feed, in a folder for each dealership."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import dagster as dg
from sqlalchemy import select

from auterity_dagster.automatrix.inventory_absence import Absence
from auterity_dagster.automatrix.inventory_csv import BYTE_LIMIT, CsvFeed, read_csv_feed
from auterity_dagster.automatrix.inventory_row import RowError
from auterity_dagster.errors import Invalid
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.inventory_absence import feed_whole_blocking
from auterity_dagster.storage.tables.identity import DealershipRow

SETTLED_AFTER_S = 5.0
"""A file that was written to within this time may not be whole yet."""
TAKEN, REJECTED = "taken", "rejected"


@dataclass(frozen=True, slots=True)
class FeedFile:
    """A file that waits, and whose stock it is by the folders that it lies in."""

    path: Path
    organization_id: UUID
    dealership_id: UUID


@dataclass(frozen=True, slots=True)
class FeedTaken:
    """What became of a file: how many vehicles were taken, how many rows were not, how many it no longer names.

    The last are `unlisted`, or `waiting` for a person where it is half of the stock or more.
    """

    taken: int
    rejected: int
    unlisted: int
    waiting: int


class InventoryFolderResource(dg.ConfigurableResource):
    """`<data>/inventory/<organization>/<dealership>/*.csv`; what is done lies in `taken` and `rejected` beside it."""

    data_dir: str

    def waiting(self) -> list[FeedFile]:
        """Return the files that are whole, the oldest first."""
        return sorted(self._files(), key=lambda file: file.path.stat().st_mtime)

    def take(self, database: BlockingDatabase, file: FeedFile, *, now: datetime) -> FeedTaken:
        """Take a file of the whole stock: bad rows are listed with line, field and reason in `rejected`.

        A file that is none at all is listed there too. Taking a file twice changes nothing.
        """
        try:
            feed = read_csv_feed(_read(file.path))
            taken, missing = _store(database, file, feed, now)
            errors = feed.errors
        except Invalid as error:
            taken, missing = 0, Absence()
            errors = (RowError(1, str(error.details.get("field", "file")), error.message),)
        name = f"{now:%Y%m%dT%H%M%S}-{file.path.name}"
        if errors:
            _list(file.path.parent / REJECTED / f"{name}.jsonl", errors)
        target = file.path.parent / TAKEN / name
        target.parent.mkdir(exist_ok=True)
        file.path.replace(target)
        return FeedTaken(taken, len(errors), missing.unlisted, missing.waiting)

    def _files(self) -> Iterator[FeedFile]:
        settled = time.time() - SETTLED_AFTER_S
        for path in (Path(self.data_dir) / "inventory").glob("*/*/*.csv"):
            owners = path.parent.parent.name, path.parent.name
            if path.is_symlink() or not path.is_file() or path.stat().st_mtime > settled:
                continue
            if (known := _ids(*owners)) is not None:
                yield FeedFile(path, *known)


def _ids(organization: str, dealership: str) -> tuple[UUID, UUID] | None:
    try:
        return UUID(organization), UUID(dealership)
    except ValueError:
        return None


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(BYTE_LIMIT + 1)


def _store(database: BlockingDatabase, file: FeedFile, feed: CsvFeed, now: datetime) -> tuple[int, Absence]:
    with database.begin(file.organization_id) as session:
        if session.scalar(select(DealershipRow.id).where(DealershipRow.id == file.dealership_id)) is None:
            raise Invalid("the folder names no dealership of this organization", field="folder")
        return feed_whole_blocking(session, feed.vehicles, named=feed.named, dealership_id=file.dealership_id, now=now)


def _list(path: Path, errors: tuple[RowError, ...]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(asdict(one), ensure_ascii=False)}\n" for one in errors))


def inventory_folder_from_environment() -> InventoryFolderResource:
    """Return the resource over the folder that is read at run time."""
    return InventoryFolderResource(data_dir=dg.EnvVar("AUTERITY_DATA_DIR"))
