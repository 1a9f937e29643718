"""Whom a schedule is for: owners of recalled vehicles, aged stock, and who is left out because they were taken up."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from sqlalchemy import update

from auterity_dagster.automatrix.recall import read_recalls
from auterity_dagster.automatrix.workflow import Audience
from auterity_dagster.storage.repositories import recalls
from auterity_dagster.storage.repositories.audience_rows import CustomerVehicle, put_customer_vehicles
from auterity_dagster.storage.repositories.audiences import Subject, Wanted, expand
from auterity_dagster.storage.repositories.cron import due_triggers, fire
from auterity_dagster.storage.repositories.inventory import feed_blocking
from auterity_dagster.storage.tables.inbound import InventoryVehicleRow
from auterity_dagster.storage.tables.workflows import ExecutionRow
from tests.fakes.template_play import RECALLS
from tests.fakes.workflow_rows import rows_of
from tests.fakes.workflow_world import CEL, CRV, Dealership, World, install_workflow, one_step, run_async

VIN = "1HGCM82633A004352"


def owner(key: str, vin: str | None, make: str, vehicle_model: str, year: int) -> CustomerVehicle:
    return CustomerVehicle(key, "Ana Ruiz", "email", f"{key}@example.com", vin, make, vehicle_model, year)


def owners(dealership: Dealership, *rows: CustomerVehicle) -> None:
    async def put(session: Any) -> None:
        await recalls.replace_all(session, read_recalls(RECALLS)[0], as_of=date(2026, 11, 24))
        await put_customer_vehicles(session, dealership.dealership_id, rows, now=dealership.clock.now())

    run_async(dealership.urls, dealership.organization_id, put)


def expanded(dealership: Dealership, audience: Audience, *, limit: int = 100) -> Sequence[Subject]:
    wanted = Wanted(dealership.dealership_id, dealership.clock.now(), limit)
    return run_async(dealership.urls, dealership.organization_id, lambda session: expand(session, audience, wanted))


def fired(world: World, dealership: Dealership) -> list[str]:
    """Let every due schedule fire, and return the subjects of all executions so far."""
    with world.database.begin_without_organization() as session:
        due = due_triggers(session, world.clock.now())
    for _organization_id, trigger_id in due:
        run_async(
            dealership.urls,
            dealership.organization_id,
            lambda session, one=trigger_id: fire(session, one, now=world.clock.now(), expressions=CEL),
        )
    return sorted(row.subject for row in rows_of(world, dealership, ExecutionRow))


def test_owners_are_found_by_vin_or_by_make_model_and_year_and_nobody_else(dealership: Dealership) -> None:
    owners(
        dealership,
        owner("by-model", None, "honda", "CRV", 2026),
        owner("by-vin", VIN, "Honda", "Accord", 2003),
        owner("other-vin", "1HGCM82633A004353", "Honda", "Accord", 2003),
        owner("other-year", None, "Honda", "CR-V", 2025),
    )

    found = expanded(dealership, Audience.VEHICLES_WITH_OPEN_RECALLS)

    assert sorted((one.data["vin"], one.data["vehicle_model"]) for one in found if one.data["vin"]) == [(VIN, "Accord")]
    assert [one.data["vehicle_model"] for one in found if one.data["vin"] is None] == ["CRV"]


def test_stock_is_another_subject_at_each_age_and_a_new_feed_makes_it_no_younger(
    world: World, dealership: Dealership
) -> None:
    found: list[tuple[str, ...]] = []
    for _day in range(5):
        found.append(tuple(one.subject for one in expanded(dealership, Audience.AGED_INVENTORY)))
        world.clock.advance(timedelta(days=23).total_seconds())
        with world.database.begin(dealership.organization_id) as session:
            feed_blocking(session, [CRV], dealership_id=dealership.dealership_id, now=world.clock.now())

    assert found == [(), (), *((f"stock-age/H26110/{age}",) for age in (45, 60, 90))]
    with world.database.begin(dealership.organization_id) as session:
        session.execute(update(InventoryVehicleRow).values(status="sold"))
    assert expanded(dealership, Audience.AGED_INVENTORY) == []


def test_a_night_goes_on_where_the_limit_of_the_last_one_ended_and_nobody_comes_twice(
    world: World, dealership: Dealership
) -> None:
    owners(dealership, *(owner(f"o{number}", None, "Honda", "CR-V", 2026) for number in range(3)))
    nightly = {
        "id": "nightly", "type": "schedule", "cron": "0 2 * * *", "audience": "vehicles_with_open_recalls",
        "limit": 2, "cool_off": "P10D",
    }  # fmt: skip
    task = {"id": "call", "kind": "assign_task", "with": {"role": "manager", "title": "Call", "due": "PT1H"}}
    install_workflow(dealership, one_step(task, triggers=[nightly]))

    nights: list[int] = []
    for days in (1, 1, 1, 8):
        world.clock.advance(timedelta(days=days).total_seconds())
        nights.append(len(fired(world, dealership)))

    # Two, the third, nobody; and after ten days the first two again.
    assert nights == [2, 3, 3, 5]
