"""The stock of a dealership: fed by stock number, found by what a customer asks for, closed to other organizations."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from cryptography.exceptions import InvalidTag
from sqlalchemy import select

from auterity_dagster.automatrix.lead import Phone
from auterity_dagster.automatrix.ports import StockVehicle
from auterity_dagster.clock import SystemClock
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.contacts import ensure_contact_blocking
from auterity_dagster.storage.repositories.inventory import PostgresInventory, feed_blocking
from auterity_dagster.storage.repositories.organizations import (
    DealershipDetails,
    add_dealership_blocking,
    create_organization,
)
from auterity_dagster.storage.sealing import Cell, seal, unseal
from auterity_dagster.storage.tables.inbound import ContactRow

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ESCAPE = StockVehicle(
    stock_number="P4471", vin="1FMCU0JN7RL597423", year=2024, make="Ford", vehicle_model="Escape", trim="Platinum",
    condition="used", status="available", price_nusd=24_990 * 10**9,
)  # fmt: skip
OLDER = replace(ESCAPE, stock_number="P4502", vin=None, year=2021, trim="Active", price_nusd=21_750 * 10**9)
SOLD = replace(ESCAPE, stock_number="P4000", vin=None, status="sold")


def store(database: BlockingDatabase, name: str = "Prairie") -> tuple[UUID, UUID]:
    made = create_organization(
        database, name=name, owner_email=f"{name.lower()}@example.com", owner_password="Correct-horse-battery-9",
        pepper=b"p" * 32, clock=SystemClock(),
    )  # fmt: skip
    with database.begin(made.organization_id) as session:
        return made.organization_id, add_dealership_blocking(session, DealershipDetails(name, "America/Chicago"))


def feed(database: BlockingDatabase, organization_id: UUID, dealership_id: UUID, *vehicles: StockVehicle) -> None:
    with database.begin(organization_id) as session:
        feed_blocking(session, vehicles, dealership_id=dealership_id, now=NOW)


def test_the_closest_vehicle_of_the_model_comes_first_and_sold_ones_only_by_number(
    blocking_database: BlockingDatabase,
) -> None:
    organization_id, dealership_id = store(blocking_database)
    feed(blocking_database, organization_id, dealership_id, OLDER, ESCAPE, SOLD)
    inventory = PostgresInventory(blocking_database)

    by_model = inventory.search(
        organization_id,
        dealership_id,
        [{"interest": "buy", "make": "FORD", "vehicle_model": "escape", "year": 2024}],
        5,
    )
    by_number = inventory.search(organization_id, dealership_id, [{"interest": "buy", "stock_number": "p4000"}], 5)

    assert by_model == (ESCAPE, OLDER)
    assert by_number == (SOLD,)


def test_a_vehicle_the_customer_brings_is_no_wish(blocking_database: BlockingDatabase) -> None:
    organization_id, dealership_id = store(blocking_database)
    feed(blocking_database, organization_id, dealership_id, ESCAPE)
    brought = {"interest": "trade-in", "make": "Ford", "vehicle_model": "Escape"}

    assert PostgresInventory(blocking_database).search(organization_id, dealership_id, [brought], 5) == ()


def test_a_row_fed_again_is_replaced(blocking_database: BlockingDatabase) -> None:
    organization_id, dealership_id = store(blocking_database)
    cheaper = replace(ESCAPE, price_nusd=1)
    feed(blocking_database, organization_id, dealership_id, ESCAPE, ESCAPE)
    feed(blocking_database, organization_id, dealership_id, cheaper)

    found = PostgresInventory(blocking_database).search(organization_id, dealership_id, [{"stock_number": "P4471"}], 5)

    assert found == (cheaper,)


def contact(database: BlockingDatabase, organization_id: UUID, contact_id: UUID) -> ContactRow | None:
    with database.begin(organization_id) as session:
        return session.scalars(select(ContactRow).where(ContactRow.id == contact_id)).one_or_none()


def test_another_organization_finds_neither_stock_nor_contact(blocking_database: BlockingDatabase) -> None:
    organization_id, dealership_id = store(blocking_database)
    feed(blocking_database, organization_id, dealership_id, ESCAPE)
    with blocking_database.begin(organization_id) as session:
        contact_id = ensure_contact_blocking(
            session, dealership_id=dealership_id, name="A", emails=["a@example.com"], phones=[], now=NOW
        )
    foreign, _ = store(blocking_database, "Summit")

    assert PostgresInventory(blocking_database).search(foreign, dealership_id, [{"stock_number": "P4471"}], 5) == ()
    assert contact(blocking_database, foreign, contact_id) is None
    assert contact(blocking_database, organization_id, contact_id) is not None


def test_a_contact_is_texted_on_its_mobile_and_never_on_its_fax(blocking_database: BlockingDatabase) -> None:
    organization_id, dealership_id = store(blocking_database)
    fax, mobile = Phone("+14025550191", "fax"), Phone("+14025550190", "mobile")
    with blocking_database.begin(organization_id) as session:
        both = ensure_contact_blocking(
            session, dealership_id=dealership_id, name="A", emails=[], phones=[fax, mobile], now=NOW
        )
        only_fax = ensure_contact_blocking(
            session, dealership_id=dealership_id, name="A", emails=["a@example.com"], phones=[fax], now=NOW
        )

    found = [contact(blocking_database, organization_id, one) for one in (both, only_fax)]

    assert [one and one.mobile for one in found] == ["+14025550190", None]


def test_one_address_with_another_phone_is_another_contact(blocking_database: BlockingDatabase) -> None:
    organization_id, dealership_id = store(blocking_database)
    with blocking_database.begin(organization_id) as session:
        ids = [
            ensure_contact_blocking(
                session, dealership_id=dealership_id, name="A", emails=["a@example.com"], phones=phones, now=NOW
            )
            for phones in ([], [Phone("+14025550190", "mobile")], [])
        ]

    assert ids[0] == ids[2] != ids[1]


def test_a_sealed_value_opens_only_where_it_was_put() -> None:
    pepper, cell = b"p" * 32, Cell(uuid4(), "vault", "sealed", uuid4())
    sealed = seal(pepper, b"987-65-4321", cell=cell)

    assert unseal(pepper, sealed, cell=cell) == b"987-65-4321"
    assert b"987" not in sealed
    for moved in (replace(cell, row_id=uuid4()), replace(cell, organization_id=uuid4()), replace(cell, column="raw")):
        with pytest.raises(InvalidTag):
            unseal(pepper, sealed, cell=moved)
    with pytest.raises(InvalidTag):
        unseal(b"q" * 32, sealed, cell=cell)
