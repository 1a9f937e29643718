"""Executions over the API: why they stand where they stand, replayed from a step, changed by the hundred."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import select

from auterity_dagster.automatrix.ports import ChatFailed
from auterity_dagster.errors import RateLimited
from auterity_dagster.identity.permission import Role
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.events import deliver
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from auterity_dagster.storage.repositories.room import require_room
from auterity_dagster.storage.tables.identity import AuditEntryRow
from tests.fakes.workflow_world import CONTACT, Dealership, FakeChat, World, customer, lead_event
from tests.serving.conftest import Api


@pytest.fixture
def dealership_id(api: Api) -> UUID:
    with api.database.begin(api.organization_id) as session:
        dealership_id = add_dealership_blocking(session, DealershipDetails("Lakeside Honda", "America/Chicago"))
        session.execute(customer(Dealership(None, api.organization_id, dealership_id, api.owner_id, api.clock), 1))
    return dealership_id


@pytest.fixture
def world(api: Api, blocking_database: BlockingDatabase) -> World:
    return World(blocking_database, api.clock)


async def lead(api: Api, dealership_id: UUID, number: int = 1, **data: Any) -> str:
    place = Dealership(None, api.organization_id, dealership_id, uuid4(), api.clock)
    async with api.state.database.begin(api.organization_id) as session:
        delivered = await deliver(session, lead_event(place, number, **data))
    return str(delivered.started[0])


async def installed(api: Api, **variables: Any) -> None:
    answer = await api.owner.post("/api/v1/templates/lead_response/install", json={"variables": variables})
    assert answer.status_code == 201, answer.text


async def turn(world: World, **parts: Any) -> None:
    await asyncio.to_thread(world.turn, engine=world.engine(**parts))


async def get(api: Api, execution_id: str, what: str = "") -> Any:
    return (await api.owner.get(f"/api/v1/executions/{execution_id}{what}")).json()


async def replayed(api: Api, execution_id: str, **body: Any) -> Any:
    answer = await api.owner.post(f"/api/v1/executions/{execution_id}/replay", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def sent_execution(api: Api, world: World, dealership_id: UUID) -> str:
    await installed(api, auto_send=True)
    execution_id = await lead(api, dealership_id)
    await turn(world)
    assert len(world.messenger.sent) == 1
    return execution_id


async def test_a_failed_execution_is_replayed_from_the_step_that_failed_with_edited_input(
    api: Api, world: World, dealership_id: UUID
) -> None:
    await installed(api, auto_send=True)
    execution_id = await lead(api, dealership_id, contact_id="nobody")
    await turn(world)
    assert (await get(api, execution_id))["error"]["message"].startswith("step sms: ")

    replay = await replayed(api, execution_id, data={"contact_id": str(CONTACT)})
    await turn(world)

    found = await get(api, replay["execution_id"])
    assert (replay["from"], set(replay["kept"])) == ("sms", {"stock", "draft", "rule", "review"})
    assert (found["state"], found["replay_of"]) == ("succeeded", execution_id)
    assert len(world.chat.calls) == 1
    ((key, _message),) = world.messenger.sent
    assert key == f"{execution_id}:first-reply"


async def test_a_replay_sends_nothing_that_was_sent_before(api: Api, world: World, dealership_id: UUID) -> None:
    execution_id = await sent_execution(api, world, dealership_id)

    await replayed(api, execution_id, **{"from": "stock"})
    await turn(world)

    assert (len(world.messenger.sent), len(world.chat.answers)) == (1, 2)


async def test_whoever_asks_for_it_sends_again_under_the_new_executions_keys(
    api: Api, world: World, dealership_id: UUID
) -> None:
    execution_id = await sent_execution(api, world, dealership_id)

    replay = await replayed(api, execution_id, **{"from": "stock", "sends_again": True})
    await turn(world)
    later = await replayed(api, replay["execution_id"], **{"from": "stock"})
    await turn(world)

    assert [key for key, _message in world.messenger.sent] == [
        f"{execution_id}:first-reply",
        f"{replay['execution_id']}:first-reply",
    ]
    assert (await get(api, later["execution_id"]))["state"] == "succeeded"
    with api.database.begin(api.organization_id) as session:
        chosen = select(AuditEntryRow.details).where(AuditEntryRow.action == "execution.replayed")
        assert sorted(details["sends_again"] for details in session.scalars(chosen)) == [False, True]


async def test_what_cannot_be_replayed_says_why(api: Api, world: World, dealership_id: UUID) -> None:
    await installed(api)
    execution_id = await lead(api, dealership_id)
    await turn(world)
    path = f"/api/v1/executions/{execution_id}/replay"
    is_open = await api.owner.post(path, json={})
    await api.owner.post(f"/api/v1/executions/{execution_id}/cancel")

    unknown = await api.owner.post(path, json={"from": "nowhere"})
    staff = await api.member(Role.STAFF).post(path, json={})
    foreign = await api.foreigner.post(path, json={})
    twice = [await api.owner.post(path, json={}, headers={"idempotency-key": "k"}) for _time in range(2)]

    assert (is_open.status_code, is_open.json()["code"]) == (409, "execution_open")
    assert (unknown.status_code, unknown.json()["field"]) == (422, "from")
    assert (staff.status_code, foreign.status_code) == (403, 404)
    assert len({one.json()["execution_id"] for one in twice}) == 1


async def test_a_version_that_differs_before_the_step_cannot_take_the_results_over(
    api: Api, world: World, dealership_id: UUID
) -> None:
    execution_id = await sent_execution(api, world, dealership_id)
    (version,) = (await api.owner.get("/api/v1/workflows/lead_response/versions")).json()
    definition = version["definition"]
    definition["steps"][0]["with"]["limit"] = 5
    draft = {"definition": definition, "note": "more cars"}
    assert (await api.owner.put("/api/v1/workflows/lead_response/draft", json=draft)).status_code == 200
    published = await api.member(Role.MANAGER).post(
        "/api/v1/workflows/lead_response/publish", json={}, headers={"if-match": "1"}
    )
    assert published.status_code == 200, published.text

    late = await api.owner.post(f"/api/v1/executions/{execution_id}/replay", json={"from": "sms", "version": "newest"})
    whole = await replayed(api, execution_id, **{"from": "stock", "version": "newest"})

    assert (late.status_code, late.json()["code"]) == (409, "step_differs")
    assert (await get(api, whole["execution_id"]))["version"] == 2


async def test_why_names_what_is_waited_for_what_failed_and_what_can_be_done(
    api: Api, world: World, dealership_id: UUID
) -> None:
    def fail(_call: Any) -> str:
        raise ChatFailed("rate_limited", "slow down", retry_after_s=600)

    await installed(api)
    approval, stopped = [await lead(api, dealership_id, number) for number in range(2)]
    await turn(world)
    waiting = await get(api, approval, "/why")
    await api.owner.post(f"/api/v1/executions/{stopped}/cancel")
    again = await replayed(api, stopped, **{"from": "draft"})
    await turn(world, chat=FakeChat(fail))
    put_off = await get(api, again["execution_id"], "/why")
    cancelled = await get(api, stopped, "/why")

    assert waiting["summary"] == "It waits for a person with the role manager to decide 'Reply to Marisol Teague'."
    assert waiting["waits_for"][0]["kind"] == "approval"
    assert waiting["actions"] == ["Decide the approval of step review.", "Cancel it."]
    assert (put_off["waits_for"][0]["kind"], put_off["waits_for"][0]["path"]) == ("retry", "draft")
    assert cancelled["summary"].startswith("Somebody cancelled it")
    assert cancelled["actions"] == ["Replay it; what was sent is not sent again."]


async def test_many_are_counted_first_and_then_cancelled_in_one_call(
    api: Api, world: World, dealership_id: UUID
) -> None:
    await installed(api)
    ids = {await lead(api, dealership_id, number) for number in range(20)}
    await turn(world)
    body = {"action": "cancel", "filter": {"workflow": "lead_response"}}

    counted = (await api.owner.post("/api/v1/executions/bulk", json=body)).json()
    states = {one["state"] for one in (await api.owner.get("/api/v1/executions")).json()["items"]}
    done = (await api.owner.post("/api/v1/executions/bulk", json={**body, "dry_run": False})).json()
    nothing = (await api.owner.post("/api/v1/executions/bulk", json={**body, "dry_run": False})).json()

    assert (counted["dry_run"], set(counted["execution_ids"]), states) == (True, ids, {"waiting"})
    assert (set(done["execution_ids"]), done["left"], nothing["execution_ids"]) == (ids, False, [])
    assert (await api.owner.get("/api/v1/approvals")).json() == []
    wrong = await api.owner.post("/api/v1/executions/bulk", json={"action": "cancel", "filter": {"state": "failed"}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "state")
    elsewhere = api.member(Role.MANAGER, dealership_ids=frozenset({uuid4()}))
    seen = (await elsewhere.post("/api/v1/executions/bulk", json={"action": "replay", "filter": {}})).json()
    assert seen["execution_ids"] == []
    again = {"action": "replay", "filter": {}, "dry_run": False}
    for _time in range(2):
        answer = await api.owner.post("/api/v1/executions/bulk", json=again, headers={"idempotency-key": "once"})
        assert answer.status_code == 200, answer.text
    assert len((await api.owner.get("/api/v1/executions")).json()["items"]) == 40


async def test_a_person_says_what_became_of_a_message_and_the_replay_acts_on_it(
    api: Api, world: World, dealership_id: UUID, database_urls: Any
) -> None:
    execution_id = await sent_execution(api, world, dealership_id)
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("UPDATE side_effect SET state = 'unknown', resolved_at = NULL")
    (effect,) = (await get(api, execution_id))["effects"]
    path = f"/api/v1/side-effects/{effect['id']}/resolve"

    advice = (await get(api, execution_id, "/why"))["actions"]
    foreign = await api.foreigner.post(path, json={"state": "failed"})
    resolved = await api.owner.post(path, json={"state": "failed"})
    late = await api.owner.post(path, json={"state": "confirmed"})
    await replayed(api, execution_id, **{"from": "stock"})
    await turn(world)

    assert advice == ["Find out whether the message of step sms was sent, before anything is replayed."]
    assert (foreign.status_code, resolved.json()["state"]) == (404, "failed")
    assert (late.status_code, late.json()["code"]) == (409, "effect_known")
    assert len(world.messenger.sent) == 2


async def test_an_event_starts_what_wants_it_and_ends_what_waits_for_it(
    api: Api, world: World, dealership_id: UUID
) -> None:
    wait = {"event": "message.received", "match": {"contact_id": "${{ event.data.contact_id }}"}}
    definition = {
        "api_version": "automatrix/v1", "key": "own", "name": "Own",
        "triggers": [{"id": "t", "type": "event", "event": "visit.booked"}],
        "steps": [{"id": "reply", "kind": "wait", "with": wait}],
    }  # fmt: skip
    await api.owner.post("/api/v1/workflows", json={"definition": definition})
    await api.owner.post("/api/v1/workflows/own/publish", json={}, headers={"if-match": "1"})

    async def happens(kind: str, contact: str, client: Any = api.owner) -> Any:
        body = {"dealership_id": str(dealership_id), "type": kind, "subject": "s", "data": {"contact_id": contact}}
        return await client.post("/api/v1/events", json=body, headers={"idempotency-key": f"{kind}{contact}"})

    (execution_id,) = (await happens("visit.booked", "ana")).json()["started"]
    again = (await happens("visit.booked", "ana")).json()["started"]
    await asyncio.to_thread(world.turn, "custom_workflow")
    why = await get(api, execution_id, "/why")
    other = (await happens("message.received", "bob")).json()
    own = (await happens("message.received", "ana")).json()
    forged = await happens("lead.received", "ana")
    foreign = await happens("visit.booked", "cid", api.foreigner)
    await asyncio.to_thread(world.turn, "custom_workflow")

    assert again == other["continued"] == []
    assert why["summary"] == "It waits for an event message.received with {'contact_id': 'ana'}."
    assert own["continued"] == [execution_id]
    assert (await get(api, execution_id))["state"] == "succeeded"
    assert (forged.status_code, foreign.status_code) == (422, 404)


async def test_an_organization_with_too_many_open_executions_starts_no_more(api: Api, dealership_id: UUID) -> None:
    await installed(api)
    for number in range(3):
        await lead(api, dealership_id, number)

    with api.database.begin(api.organization_id) as session:
        require_room(session, api.organization_id, wanted=1, limit=4)
        with pytest.raises(RateLimited, match="3 executions are open, 2 more would pass the limit of 4"):
            require_room(session, api.organization_id, wanted=2, limit=4)
