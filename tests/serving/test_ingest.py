"""Leads and stock posted with a key, the quarantine's desk, and what happens while PostgreSQL is away."""

import json
from importlib.resources import files
from typing import Any
from uuid import UUID

import httpx
import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.repositories.inventory import PostgresInventory
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from tests.serving.conftest import Api

SAMPLES = files("auterity_dagster.automatrix") / "samples"
GOOD_ROW = {
    "stock_number": "P4471", "make": "Ford", "vehicle_model": "Escape", "year": 2024, "trim": "Platinum",
    "condition": "used", "total_price_usd": 24990,
}  # fmt: skip
JSON_LEAD = {
    "specversion": "1.0",
    "id": "l-1",
    "source": "Own Website",
    "type": "com.auterity.lead.submitted",
    "time": "2026-11-20T10:00:00Z",
    "data": {
        "name": "Ana Ruiz",
        "emails": ["Ana@example.com"],
        "phones": [{"number": "312-555-0141", "kind": "mobile", "is_preferred": True}],
        "vehicles": [{"make": "Honda", "vehicle_model": "CR-V", "vin": "2HKRS4H42TH719547", "price_usd": "36310.00"}],
        "comments": "SSN: 987-65-4321 is the CR-V there?",
    },
}


def sample(number: int) -> bytes:
    return (SAMPLES / f"lead_{number:02}.xml").read_bytes()


def dealership(api: Api, organization_id: UUID, name: str = "Lakeside") -> UUID:
    with api.database.begin(organization_id) as session:
        return add_dealership_blocking(session, DealershipDetails(name, "America/Chicago"))


async def post(client: httpx.AsyncClient, path: str, dealership_id: UUID, body: bytes) -> httpx.Response:
    return await client.post(f"/api/v1/ingest/{path}", params={"dealership_id": str(dealership_id)}, content=body)


async def leads_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get("/api/v1/leads")).json()["items"]


async def test_a_document_posted_twice_is_one_delivery(api: Api) -> None:
    where = dealership(api, api.organization_id)

    first, again = [await post(api.owner, "adf", where, sample(1)) for _ in range(2)]

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert len(await leads_of(api.owner)) == 1


async def test_a_json_lead_goes_the_same_way(api: Api) -> None:
    where = dealership(api, api.organization_id)

    answer = await post(api.owner, "leads", where, json.dumps(JSON_LEAD).encode())

    assert answer.json()["state"] == "accepted"
    (lead,) = await leads_of(api.owner)
    assert lead["dedupe_key"] == "json:own-website:l-1"
    assert (lead["channel"], lead["flags"]) == ("sms", ["credit_application"])
    assert lead["comments"] == "SSN: [vaulted] is the CR-V there?"
    assert lead["vehicles"][0]["price_nusd"] == 36_310 * 10**9


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"specversion": "1.0"}', b'{"a": "\\ud800"}', b"\xff\xfe"])
async def test_json_that_is_no_lead_is_quarantined_and_still_taken(api: Api, body: bytes) -> None:
    where = dealership(api, api.organization_id)

    answer = await post(api.owner, "leads", where, body)

    assert (answer.status_code, answer.json()["state"]) == (202, "quarantined")


async def test_a_quarantine_note_names_fields_and_never_what_was_sent(api: Api) -> None:
    where = dealership(api, api.organization_id)
    wrong = {**JSON_LEAD, "data": {"name": "Ana", "ssn": "987-65-4321"}}
    await post(api.owner, "leads", where, json.dumps(wrong).encode())

    (listed,) = (await api.owner.get("/api/v1/inbound")).json()["items"]

    assert "data.ssn: extra_forbidden" in listed["note"]
    assert "987" not in json.dumps(listed)


async def test_a_person_adds_an_address_and_the_lead_takes_effect(api: Api) -> None:
    where = dealership(api, api.organization_id)
    event_id = (await post(api.owner, "adf", where, sample(13))).json()["inbound_event_id"]

    useless = await api.owner.post(f"/api/v1/inbound/{event_id}/accept", json={"email": "nonsense"})
    accepted = await api.owner.post(f"/api/v1/inbound/{event_id}/accept", json={"email": "ray@example.com"})
    again = await api.owner.post(f"/api/v1/inbound/{event_id}/accept", json={"email": "ray@example.com"})

    assert useless.json()["state"] == "quarantined"
    assert accepted.json()["state"] == "accepted"
    assert again.status_code == 409
    (lead,) = await leads_of(api.owner)
    assert (lead["customer_name"], lead["channel"]) == ("Ray M.", "email")


async def test_a_corrected_document_is_accepted_and_a_discarded_one_is_not(api: Api) -> None:
    where = dealership(api, api.organization_id)
    cut, hostile = [
        (await post(api.owner, "adf", where, sample(number))).json()["inbound_event_id"] for number in (18, 19)
    ]

    fixed = await api.owner.post(f"/api/v1/inbound/{cut}/accept", json={"document": sample(1).decode()})
    dropped = await api.owner.post(f"/api/v1/inbound/{hostile}/discard", json={})
    late = await api.owner.post(f"/api/v1/inbound/{hostile}/accept", json={"document": sample(1).decode()})

    assert (fixed.json()["state"], dropped.json()["state"], late.status_code) == ("accepted", "discarded", 409)


async def test_good_rows_are_taken_and_bad_ones_named_by_number_and_field(api: Api) -> None:
    where = dealership(api, api.organization_id)
    rows = [
        GOOD_ROW,
        {**GOOD_ROW, "vin": "3FA6POT91KR260447"},
        {**GOOD_ROW, "total_price_usd": 24990.5},
        {**GOOD_ROW, "price": 1},
        "a row",
    ]

    answer = await api.owner.post("/api/v1/ingest/inventory", json={"dealership_id": str(where), "rows": rows})

    told = answer.json()
    assert told["taken"] == 1
    assert [(bad["row"], bad["field"]) for bad in told["bad_rows"]] == [
        (2, "vin"), (3, "total_price_usd"), (4, "price"), (5, "row"),
    ]  # fmt: skip
    inventory = PostgresInventory(api.database)
    (found,) = inventory.search(api.organization_id, where, [{"make": "ford", "vehicle_model": "escape"}], 5)
    assert found.price_nusd == 24_990 * 10**9


@pytest.mark.parametrize("path", ["adf", "leads"])
async def test_nobody_posts_for_a_foreign_or_unseen_dealership_or_without_the_permission(api: Api, path: str) -> None:
    ours, theirs = dealership(api, api.organization_id), dealership(api, api.foreign_organization_id)
    elsewhere = api.member(Role.MANAGER, dealership_ids=frozenset({dealership(api, api.organization_id, "Other")}))
    staff = api.member(Role.STAFF)

    answers = [
        (await post(client, path, where, sample(1))).status_code
        for client, where in ((api.owner, theirs), (elsewhere, ours), (staff, ours), (api.anonymous, ours))
    ]

    assert answers == [404, 404, 403, 401]


async def test_leads_of_other_dealerships_stay_hidden_from_their_staff(api: Api) -> None:
    where = dealership(api, api.organization_id)
    await post(api.owner, "adf", where, sample(1))
    staff = api.member(Role.STAFF, dealership_ids=frozenset({dealership(api, api.organization_id, "Other")}))

    assert await leads_of(staff) == []
    assert (await staff.get("/api/v1/inbound")).json()["items"] == []


async def test_pages_follow_each_other_without_a_hole(api: Api) -> None:
    where = dealership(api, api.organization_id)
    for number in (1, 2, 3, 4, 5):
        await post(api.owner, "adf", where, sample(number))

    seen: list[str] = []
    after: str | None = None
    while True:
        page = (await api.owner.get("/api/v1/leads", params={"limit": 2} | ({"after": after} if after else {}))).json()
        seen += [lead["id"] for lead in page["items"]]
        after = page["next"]
        if after is None:
            break

    assert len(seen) == len(set(seen)) == 5
    assert (await api.owner.get("/api/v1/leads", params={"after": "nonsense"})).status_code == 422
