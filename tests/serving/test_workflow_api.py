"""Workflows over the API: install, start a batch, approve; and who may not."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from auterity_dagster.storage.repositories.triggering import start_executions
from tests.fakes.workflow_world import Dealership, World, lead_event
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
        (execution_id,) = await start_executions(session, lead_event(place))
    return execution_id


async def installed(client: httpx.AsyncClient, key: str = "lead_response", **variables) -> None:
    answer = await client.post(f"/api/v1/templates/{key}/install", json={"variables": variables})
    assert answer.status_code == 201, answer.text


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
    assert {message.text for _key, message in world.messenger.sent} == {reminder(None)}
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
        assert await start_executions(session, lead_event(place)) == ()
