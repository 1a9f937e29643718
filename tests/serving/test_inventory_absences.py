"""A feed of the whole stock unlists what it does not name, and waits for a person where half of it would go."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from auterity_dagster.automatrix.inventory_absence import absence
from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from auterity_dagster.storage.tables.identity import AuditEntryRow
from auterity_dagster.storage.tables.inbound import InventoryVehicleRow
from tests.serving.conftest import Api

ABSENCES = "/api/v1/inventory/absences"


@pytest.fixture
def dealership_id(api: Api) -> UUID:
    with api.database.begin(api.organization_id) as session:
        return add_dealership_blocking(session, DealershipDetails("Lakeside Honda", "America/Chicago"))


def rows(numbers: Sequence[int], **changed: Any) -> list[dict[str, Any]]:
    return [{"stock_number": f"H{one}", "make": "Honda", "vehicle_model": "CR-V", **changed} for one in numbers]


async def feed(api: Api, dealership_id: UUID, given: list[dict[str, Any]], *, is_whole: bool = True) -> dict[str, Any]:
    api.clock.advance(60)
    body = {"dealership_id": str(dealership_id), "rows": given, "is_whole": is_whole}
    answer = await api.owner.post("/api/v1/ingest/inventory", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def statuses(api: Api) -> dict[str, str]:
    with api.database.begin(api.organization_id) as session:
        found = session.execute(select(InventoryVehicleRow.stock_number, InventoryVehicleRow.status))
        return {row.stock_number: row.status for row in found}


async def decide(client: httpx.AsyncClient, dealership_id: UUID, decision: str) -> httpx.Response:
    return await client.post(f"{ABSENCES}/{dealership_id}/decide", json={"decision": decision})


async def test_a_vehicle_that_a_whole_feed_no_longer_names_is_unlisted_and_comes_back_with_the_next(
    api: Api, dealership_id: UUID
) -> None:
    await feed(api, dealership_id, rows(range(10)))

    told = await feed(api, dealership_id, rows(range(8)))
    gone = statuses(api)
    await feed(api, dealership_id, rows(range(9)))

    assert (told["unlisted"], told["waiting"]) == (2, 0)
    assert {number for number, status in gone.items() if status == "unlisted"} == {"H8", "H9"}
    assert [statuses(api)[number] for number in ("H8", "H9")] == ["available", "unlisted"]


async def test_a_feed_of_changes_unlists_nothing_and_a_bad_row_keeps_its_vehicle(api: Api, dealership_id: UUID) -> None:
    await feed(api, dealership_id, rows(range(4)))

    changes = await feed(api, dealership_id, rows([0]), is_whole=False)
    whole = await feed(api, dealership_id, [*rows([0, 1, 2]), *rows([3], vin="NOT-A-VIN")])

    assert (changes["unlisted"], changes["waiting"]) == (0, 0)
    assert (whole["taken"], len(whole["bad_rows"]), whole["unlisted"]) == (3, 1, 0)
    assert set(statuses(api).values()) == {"available"}


@pytest.mark.parametrize(("decision", "becomes"), [("unlist", "unlisted"), ("keep", "available")])
async def test_a_feed_that_shrinks_by_half_waits_for_a_person(
    api: Api, dealership_id: UUID, decision: str, becomes: str
) -> None:
    await feed(api, dealership_id, rows(range(10)))

    told = await feed(api, dealership_id, rows(range(5), trim="EX"))
    (waiting,) = (await api.owner.get(ABSENCES)).json()
    meanwhile = set(statuses(api).values())
    staff = await decide(api.member(Role.AUDITOR), dealership_id, decision)
    foreign = await decide(api.foreigner, dealership_id, decision)
    decided = await decide(api.owner, dealership_id, decision)
    again = await decide(api.owner, dealership_id, decision)

    assert (told["taken"], told["unlisted"], told["waiting"]) == (5, 0, 5)
    assert (waiting["listed"], waiting["gone"]) == (10, [f"H{one}" for one in range(5, 10)])
    assert meanwhile == {"available"}
    assert (staff.status_code, foreign.status_code, decided.status_code, again.status_code) == (403, 404, 200, 404)
    assert {statuses(api)[f"H{one}"] for one in range(5, 10)} == {becomes}
    assert {statuses(api)[f"H{one}"] for one in range(5)} == {"available"}
    with api.database.begin(api.organization_id) as session:
        entry = session.scalars(select(AuditEntryRow).where(AuditEntryRow.action == "inventory.absence_decided")).one()
    assert entry.details == {"decision": decision, "vehicles": 5}


async def test_the_next_whole_feed_decides_for_the_person(api: Api, dealership_id: UUID) -> None:
    await feed(api, dealership_id, rows(range(10)))
    await feed(api, dealership_id, rows(range(2)))

    await feed(api, dealership_id, rows(range(10)))

    assert (await api.owner.get(ABSENCES)).json() == []
    assert set(statuses(api).values()) == {"available"}


async def test_a_file_is_taken_like_its_rows_and_bad_ones_are_named_by_line(api: Api, dealership_id: UUID) -> None:
    await feed(api, dealership_id, rows(range(4)))
    file = b"Stock #,Make,Model,VIN\nH0,Honda,CR-V,\nH1,Honda,CR-V,NOT-A-VIN\nH2,Honda,CR-V,\n"

    async def post(params: dict[str, str], content: bytes) -> httpx.Response:
        given = {"dealership_id": str(dealership_id), **params}
        return await api.owner.post("/api/v1/ingest/inventory/file", params=given, content=content)

    changes = await post({}, file)
    whole = await post({"is_whole": "true"}, file)
    torn = await post({}, b"PK\x00")

    assert (changes.json()["taken"], changes.json()["unlisted"]) == (2, 0)
    assert [(bad["row"], bad["field"]) for bad in whole.json()["bad_rows"]] == [(3, "vin")]
    assert whole.json()["unlisted"] == 1
    assert statuses(api) == {"H0": "available", "H1": "available", "H2": "available", "H3": "unlisted"}
    assert (torn.status_code, "spreadsheet" in torn.json()["detail"]) == (422, True)


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_what_is_gone_is_what_was_listed_and_is_not_named(listed: set[int], named: set[int]) -> None:
    found = absence({str(one) for one in listed}, {str(one) for one in named})

    assert set(found.gone) == {str(one) for one in listed - named}
    assert found.needs_a_person == (len(found.gone) > 0 and len(listed & named) <= len(listed) / 2)
