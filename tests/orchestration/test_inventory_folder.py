"""Stock files in the watched folder: good rows are taken, bad ones listed with a reason, and nothing is read half."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from auterity_dagster.automatrix.inventory_csv import BYTE_LIMIT, read_csv_feed
from auterity_dagster.errors import Invalid
from auterity_dagster.jobs.inventory_files import take_inventory_files
from auterity_dagster.money import nano_usd
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.inventory_folder import InventoryFolderResource
from auterity_dagster.sensors.inventory_files import inventory_files
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.tables.inbound import InventoryVehicleRow
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.workflow_world import Dealership, new_dealership

HEADER = "Stock #,VIN,Year,Make,Model,New/Used,Total Price,MSRP"
GOOD = 'H1,2HKRS4H42TH719547,2026,Honda,CR-V,N,"$36,310.00",39000'
BAD = "H2,NOT-A-VIN,2026,Honda,Civic,N,24990,26000"
SHORT = "H3,,2026,Honda"


def feed(*rows: str, header: str = HEADER) -> bytes:
    return "\r\n".join([header, *rows]).encode()


def test_a_dealers_own_header_is_understood_and_a_list_price_is_no_total_price() -> None:
    found = read_csv_feed(feed(GOOD))

    (vehicle,) = found.vehicles
    assert (vehicle.stock_number, vehicle.condition, vehicle.price_nusd) == ("H1", "new", nano_usd("36310.00"))
    assert (found.errors, found.unread_columns) == ((), ("MSRP",))


def test_a_bad_row_costs_only_itself_and_is_named_by_its_line() -> None:
    found = read_csv_feed(feed(BAD, GOOD, "", SHORT))

    assert [one.stock_number for one in found.vehicles] == ["H1"]
    assert [(one.row, one.field) for one in found.errors] == [(2, "vin"), (5, "row")]


@pytest.mark.parametrize("encoded", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_whatever_a_spreadsheet_writes_is_read(encoded: str, delimiter: str) -> None:
    text = "\n".join(["stock,make,model", "H1,Citroën,C4"]).replace(",", delimiter)

    assert read_csv_feed(text.encode(encoded)).vehicles[0].make == "Citroën"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no column for stock_number, make, vehicle_model"),
        (feed(header="stock,make"), "no column for vehicle_model"),
        (feed(header="stock,stock no,make,model"), "two columns are stock_number"),
        (b"PK\x03\x04\x00", "NUL characters"),
        (feed('H1,"open'), "is no CSV"),
        (b"x" * (BYTE_LIMIT + 1), "bytes"),
        (feed(*[GOOD] * 20_001), "more than 20000 rows"),
    ],
    ids=["empty", "no-model", "two-stock-numbers", "spreadsheet", "open-quote", "too-large", "too-many"],
)
def test_what_is_no_feed_is_refused_with_a_reason(raw: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_csv_feed(raw)


@settings(max_examples=200)
@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_do_anything_else(raw: bytes, has_header: bool) -> None:
    try:
        found = read_csv_feed(feed() + b"\r\n" + raw if has_header else raw)
    except Invalid:
        return
    assert all(one.reason for one in found.errors)


@pytest.fixture
def dealership(database_urls: DatabaseUrls, blocking_database: BlockingDatabase) -> Dealership:
    return new_dealership(database_urls, blocking_database, FakeClock(datetime.now(UTC)))


@pytest.fixture
def folder(tmp_path: Path, dealership: Dealership) -> Path:
    made = tmp_path / "inventory" / str(dealership.organization_id) / str(dealership.dealership_id)
    made.mkdir(parents=True)
    return made


def put(folder: Path, name: str, raw: bytes, *, age_s: float = 60) -> Path:
    path = folder / name
    path.write_bytes(raw)
    at = time.time() - age_s
    os.utime(path, (at, at))
    return path


def test_files_are_taken_once_they_are_whole_and_bad_rows_are_listed(
    tmp_path: Path,
    folder: Path,
    dealership: Dealership,
    database_urls: DatabaseUrls,
    blocking_database: BlockingDatabase,
) -> None:
    resources = {
        "database": DatabaseResource(url=database_urls.application),
        "inventory_folder": InventoryFolderResource(data_dir=str(tmp_path)),
    }
    foreign = tmp_path / "inventory" / str(uuid4()) / str(dealership.dealership_id)
    foreign.mkdir(parents=True)
    put(folder, "monday.csv", feed(GOOD, BAD))
    put(folder, "spreadsheet.csv", b"PK\x00")
    put(foreign, "stolen.csv", feed(GOOD.replace("H1", "X1")))
    half = put(folder, "half.csv", feed(GOOD.replace("H1", "H9")), age_s=0)
    (folder / "link.csv").symlink_to(half)

    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources=resources)
        assert len(inventory_files.evaluate_tick(context).run_requests or []) == 1
        take_inventory_files.execute_in_process(instance=instance, resources=resources)
        assert inventory_files.evaluate_tick(context).run_requests == []

    with blocking_database.begin(dealership.organization_id) as session:
        stock = set(session.scalars(select(InventoryVehicleRow.stock_number)))
    assert "H1" in stock
    assert not stock & {"H2", "H9", "X1"}
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["half.csv", "link.csv"]
    told = [json.loads(line) for path in sorted((folder / "rejected").iterdir()) for line in path.open()]
    assert sorted((one["row"], one["field"]) for one in told) == [(1, "file"), (3, "vin")]
    (refused,) = (foreign / "rejected").iterdir()
    assert json.loads(refused.read_text())["field"] == "folder"
