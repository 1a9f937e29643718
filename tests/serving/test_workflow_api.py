"""Workflows over the API: install, start a batch, approve; and who may not."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.events import deliver
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from tests.fakes.workflow_world import DISCLOSURE, Dealership, World, customer, lead_event
from tests.serving.conftest import Api


@pytest.fixture
def dealership_id(api: Api) -> UUID:
    with api.database.begin(api.organization_id) as session:
        return add_dealership_blocking(session, DealershipDetails("Lakeside Honda", "America/Chicago"))


@pytest.fixture
def world(api: Api, blocking_database: BlockingDatabase) -> World:
    return World(blocking_database, api.clock)


def customers(api: Api, count: int) -> list[dict]:
    return [
        {
            "external_key": f"c{number}", "customer_name": f"Customer {number}", "channel": "sms",
            "address": f"+131255501{number:02}", "vehicle": "2021 Toyota RAV4", "service": "30,000 mile service",
            "times": ["Tuesday 08:30", "Thursday 13:00"],
            "due_at": (api.clock.now() - timedelta(days=number)).isoformat(),
        }
        for number in range(count)
    ]  # fmt: skip


async def lead(api: Api, dealership_id: UUID) -> UUID:
    place = Dealership(None, api.organization_id, dealership_id, uuid4(), api.clock)
    async with api.state.database.begin(api.organization_id) as session:
        await session.execute(customer(place, 1))
        (execution_id,) = (await deliver(session, lead_event(place))).started
    return execution_id


async def installed(client: httpx.AsyncClient, key: str = "lead_response", **variables) -> None:
    answer = await client.post(f"/api/v1/templates/{key}/install", json={"variables": variables})
    assert answer.status_code == 201, answer.text


async def test_everything_that_ships_is_listed_and_installed(api: Api) -> None:
    listed = {one["key"] for one in (await api.owner.get("/api/v1/templates")).json()}

    for key in listed:
        await installed(api.owner, key)

    assert len(listed) == 13
    found = (await api.owner.get("/api/v1/workflows")).json()
    assert {one["key"]: one["job"] for one in found} == {key: key for key in listed}


async def test_owners_of_recalled_vehicles_are_handed_in(api: Api, dealership_id: UUID) -> None:
    await installed(api.owner, "open_recall_outreach")
    csv = "campaign,make,model,year,summary,remedy\n26V123,Honda,CR-V,2026,The latch may open.,It is replaced."
    given = await api.owner.post(
        "/api/v1/ingest/recalls", params={"as_of": "2026-11-24"}, content=csv, headers={"content-type": "text/csv"}
    )
    assert given.status_code in (200, 201), given.text
    row = {
        "external_key": "v1", "customer_name": "Ana Ruiz", "channel": "email", "address": "ana@example.com",
        "make": "Honda", "vehicle_model": "CR-V", "year": 2026,
    }  # fmt: skip
    body = {"dealership_id": str(dealership_id), "rows": [row]}
    assert (await api.owner.put("/api/v1/audiences/customer-vehicles", json=body)).json() == {"rows": 1}

    start = {"dealership_id": str(dealership_id), "audience": {"name": "vehicles_with_open_recalls"}}
    started = await api.owner.post("/api/v1/workflows/open_recall_outreach/executions", json=start)

    assert len(started.json()["execution_ids"]) == 1
    wrong = {**body, "rows": [{**row, "address": "+13125550141"}]}
    refused = await api.owner.put("/api/v1/audiences/customer-vehicles", json=wrong)
    assert (refused.status_code, "rows.0" in refused.text) == (422, True), refused.text


async def test_a_list_is_decided_in_one_call_and_what_hinders_one_hinders_no_other(
    api: Api, world: World, dealership_id: UUID
) -> None:
    await installed(api.owner, "service_reminder", auto_send=False)
    rows = {"dealership_id": str(dealership_id), "rows": customers(api, 3)}
    await api.owner.put("/api/v1/audiences/service-due", json=rows)
    start = {"dealership_id": str(dealership_id), "audience": {"name": "vehicles_due_for_service"}}
    await api.owner.post("/api/v1/workflows/service_reminder/executions", json=start)
    await asyncio.to_thread(world.turn, "service_reminder", lane="batch")
    assert (await api.owner.get("/api/v1/approvals", params={"workflow": "lead_response"})).json() == []
    listed = (await api.owner.get("/api/v1/approvals", params={"workflow": "service_reminder"})).json()
    first, second, third = (one["id"] for one in listed)
    await api.owner.post(f"/api/v1/approvals/{first}/decide", json={"decision": "rejected"})

    decisions = [
        {"approval_id": first, "decision": "approved"},
        {"approval_id": second, "decision": "approved"},
        {"approval_id": third, "decision": "approved", "final": {"nope": "x"}},
        {"approval_id": str(uuid4()), "decision": "approved"},
    ]
    answer = (await api.owner.post("/api/v1/approvals/decide-group", json={"decisions": decisions})).json()

    assert [one["state"] for one in answer] == [None, "approved", None, None]
    told = ("has rejected this", None, "cannot be edited", "no such approval")
    assert all((word is None) == (one["problem"] is None) for word, one in zip(told, answer, strict=True))
    assert all(word in (one["problem"] or "") for word, one in zip(told, answer, strict=True) if word is not None)
    left = (await api.owner.get("/api/v1/approvals")).json()
    assert [one["id"] for one in left] == [third]


async def test_a_batch_of_reminders_runs_from_the_audience_to_the_messenger(
    api: Api, world: World, dealership_id: UUID
) -> None:
    await installed(api.owner, "service_reminder")
    rows = {"dealership_id": str(dealership_id), "rows": customers(api, 12)}
    assert (await api.owner.put("/api/v1/audiences/service-due", json=rows)).json() == {"rows": 12}
    start = {"dealership_id": str(dealership_id), "audience": {"name": "vehicles_due_for_service"}}
    started = await api.owner.post(
        "/api/v1/workflows/service_reminder/executions", json=start, headers={"idempotency-key": "november"}
    )
    again = await api.owner.post(
        "/api/v1/workflows/service_reminder/executions", json=start, headers={"idempotency-key": "november"}
    )

    await asyncio.to_thread(
        world.turn, "service_reminder", lane="batch", engine=world.engine(chat=replace(world.chat, answer=reminder))
    )

    assert (started.status_code, len(started.json()["execution_ids"])) == (202, 12)
    assert again.json()["execution_ids"] == []
    listed = (await api.owner.get("/api/v1/executions", params={"workflow": "service_reminder"})).json()["items"]
    assert {one["state"] for one in listed} == {"succeeded"}
    assert {message.text for _key, message in world.messenger.sent} == {f"{reminder(None)}\n{DISCLOSURE}"}
    assert len(world.messenger.sent) == 12


def reminder(_call) -> str:
    return "Your RAV4 is due for its 30,000 mile service. Tuesday 08:30 or Thursday 13:00?"


async def test_a_lead_is_approved_over_the_api_and_everything_about_it_can_be_read(
    api: Api, world: World, dealership_id: UUID
) -> None:
    await installed(api.owner)
    execution_id = await lead(api, dealership_id)
    await asyncio.to_thread(world.turn)
    (approval,) = (await api.owner.get("/api/v1/approvals")).json()

    decided = await api.owner.post(f"/api/v1/approvals/{approval['id']}/decide", json={"decision": "approved"})
    late = await api.owner.post(f"/api/v1/approvals/{approval['id']}/decide", json={"decision": "rejected"})
    await asyncio.to_thread(world.turn)

    assert decided.status_code == 200
    assert late.status_code == 409
    assert late.json()["decided_by"] == "owner"
    found = (await api.owner.get(f"/api/v1/executions/{execution_id}")).json()
    assert found["state"] == "succeeded"
    assert found["cost_nusd"] == 12_345
    assert found["received_at"] <= found["first_step_started_at"] <= found["draft_finished_at"]
    assert [(one["path"], one["state"]) for one in found["effects"]] == [("sms", "confirmed")]


async def test_pages_of_executions_follow_each_other(api: Api, dealership_id: UUID) -> None:
    await installed(api.owner, "service_reminder")
    subjects = [{"subject": f"s/{number}"} for number in range(5)]
    start = {"dealership_id": str(dealership_id), "subjects": subjects}
    await api.owner.post("/api/v1/workflows/service_reminder/executions", json=start)

    seen, after = [], None
    while True:
        params = {"limit": 2} | ({"after": after} if after else {})
        page = (await api.owner.get("/api/v1/executions", params=params)).json()
        seen += [one["subject"] for one in page["items"]]
        if (after := page["next"]) is None:
            break

    assert sorted(seen) == [f"s/{number}" for number in range(5)]


async def test_an_execution_that_nobody_holds_is_cancelled_at_once(api: Api, world: World, dealership_id: UUID) -> None:
    await installed(api.owner)
    execution_id = await lead(api, dealership_id)
    await asyncio.to_thread(world.turn)

    cancelled = await api.owner.post(f"/api/v1/executions/{execution_id}/cancel")

    assert cancelled.json() == {"state": "cancelled"}
    assert (await api.owner.get("/api/v1/approvals")).json() == []
    assert (await api.owner.post(f"/api/v1/executions/{execution_id}/cancel")).status_code == 409


async def test_a_wrong_definition_is_answered_with_every_problem(api: Api) -> None:
    definition = {
        "api_version": "automatrix/v1", "key": "own", "name": "Own", "on": 1,
        "triggers": [{"id": "lead", "type": "event", "event": "lead.received"}],
        "steps": [{"id": "a", "kind": "teleport"}],
    }  # fmt: skip

    answer = await api.owner.post("/api/v1/workflows/validate", json={"definition": definition})

    assert answer.status_code == 422
    assert answer.json()["code"] == "definition_invalid"
    assert len(answer.json()["problems"]) == 2


async def test_the_foreign_and_the_anonymous_see_nothing(api: Api, world: World, dealership_id: UUID) -> None:
    await installed(api.owner)
    execution_id = await lead(api, dealership_id)
    await asyncio.to_thread(world.turn)
    (approval,) = (await api.owner.get("/api/v1/approvals")).json()

    assert (await api.anonymous.get("/api/v1/executions")).status_code == 401
    assert (await api.foreigner.get("/api/v1/executions")).json()["items"] == []
    assert (await api.foreigner.get(f"/api/v1/executions/{execution_id}")).status_code == 404
    answer = await api.foreigner.post(f"/api/v1/approvals/{approval['id']}/decide", json={"decision": "approved"})
    assert answer.status_code == 404
    start = {"dealership_id": str(dealership_id), "subjects": [{"subject": "x"}]}
    await installed(api.foreigner)
    assert (await api.foreigner.post("/api/v1/workflows/lead_response/executions", json=start)).status_code == 404


async def test_a_member_of_another_dealership_sees_nothing(api: Api, world: World, dealership_id: UUID) -> None:
    await installed(api.owner)
    execution_id = await lead(api, dealership_id)
    await asyncio.to_thread(world.turn)
    elsewhere = api.member(Role.MANAGER, dealership_ids=frozenset({uuid4()}))

    assert (await elsewhere.get("/api/v1/approvals")).json() == []
    assert (await elsewhere.get("/api/v1/executions")).json()["items"] == []
    assert (await elsewhere.get(f"/api/v1/executions/{execution_id}")).status_code == 404


async def test_staff_may_read_and_neither_decide_nor_publish(api: Api) -> None:
    staff = api.member(Role.STAFF)

    assert (await staff.get("/api/v1/workflows")).status_code == 200
    assert (await staff.get("/api/v1/approvals")).status_code == 403
    assert (await staff.post("/api/v1/templates/lead_response/install", json={})).status_code == 403


async def test_a_paused_workflow_starts_nothing(api: Api, dealership_id: UUID) -> None:
    await installed(api.owner)

    paused = await api.owner.post("/api/v1/workflows/lead_response/pause")

    assert paused.status_code == 200
    place = Dealership(None, api.organization_id, dealership_id, uuid4(), api.clock)
    async with api.state.database.begin(api.organization_id) as session:
        assert (await deliver(session, lead_event(place))).started == ()
