"""From a draft to a version over the API: nobody overwrites what they have not seen, two persons reach customers."""

import json
from typing import Any

from auterity_dagster.identity.permission import Role
from tests.serving.conftest import Api

CALL = {"id": "call", "kind": "assign_task", "with": {"role": "manager", "title": "Call", "due": "PT5M"}}
SEND = {
    "id": "sms", "kind": "send_sms", "idempotency_key": "execution.id",
    "with": {"contact_id": "${{ event.data.contact_id }}", "purpose": "inquiry_reply", "body": "Hi"},
}  # fmt: skip


def definition(*steps: Any, **more: Any) -> dict[str, Any]:
    return {
        "api_version": "automatrix/v1", "key": "own", "name": "Own",
        "triggers": [{"id": "lead", "type": "event", "event": "lead.received"}], "steps": list(steps or [CALL]), **more,
    }  # fmt: skip


async def added(api: Api, *steps: Any, **more: Any) -> Any:
    answer = await api.owner.post("/api/v1/workflows", json={"definition": definition(*steps, **more)})
    assert answer.status_code == 201, answer.text
    return answer


async def test_a_workflow_goes_from_draft_to_version_and_on(api: Api) -> None:
    first = await added(api)
    assert (first.headers["etag"], first.json()["problems"]) == ('"1"', [])
    assert [(one["key"], one["state"], one["number"]) for one in (await api.owner.get("/api/v1/workflows")).json()] == [
        ("own", "draft", None)
    ]
    assert (await api.owner.post("/api/v1/workflows/own/resume")).json()["code"] == "not_published"
    checked = (await api.owner.post("/api/v1/workflows/own/validate")).json()
    assert (checked["steps"], checked["contacts_customers"]) == (["call"], False)

    published = await api.owner.post("/api/v1/workflows/own/publish", json={}, headers={"if-match": '"1"'})
    assert (published.status_code, published.json()["number"]) == (200, 1)
    assert (await api.owner.get("/api/v1/workflows/own/draft")).status_code == 404

    changed = definition({**CALL, "timeout": "PT9S"})
    await api.owner.put("/api/v1/workflows/own/draft", json={"definition": changed, "note": "faster"})
    difference = (await api.owner.get("/api/v1/workflows/own/versions/1/diff/draft")).json()
    assert difference == [{"kind": "added", "path": "steps.call.timeout", "before": None, "after": "PT9S"}]
    second = await api.owner.post("/api/v1/workflows/own/publish", json={}, headers={"if-match": "1"})
    assert second.json()["number"] == 2
    newest = (await api.owner.get("/api/v1/workflows/own/versions")).json()[0]
    assert (newest["note"], newest["number"]) == ("faster", 2)
    for action, state in (("pause", "paused"), ("resume", "active"), ("archive", "archived")):
        assert (await api.owner.post(f"/api/v1/workflows/own/{action}")).status_code == 200
        assert (await api.owner.get("/api/v1/workflows")).json()[0]["state"] == state


async def test_nobody_writes_over_what_they_have_not_seen(api: Api) -> None:
    await added(api)
    body = {"definition": definition({**CALL, "timeout": "PT9S"})}
    path = "/api/v1/workflows/own/draft"

    blind = await api.owner.put(path, json=body)
    seen = await api.owner.put(path, json=body, headers={"if-match": '"1"'})
    stale = await api.owner.put(path, json=body, headers={"if-match": '"1"'})
    early = await api.owner.post("/api/v1/workflows/own/publish", json={}, headers={"if-match": '"1"'})
    dropped = await api.owner.delete(path, headers={"if-match": '"2"'})

    assert [one.status_code for one in (blind, seen, stale, early, dropped)] == [409, 200, 409, 409, 200]
    assert (stale.json()["code"], stale.json()["revision"]) == ("draft_changed", 2)


async def test_what_reaches_customers_is_published_by_somebody_else(api: Api) -> None:
    await added(api, SEND)
    match = {"if-match": "1"}

    own = await api.owner.post("/api/v1/workflows/own/publish", json={}, headers=match)
    other = await api.member(Role.MANAGER).post("/api/v1/workflows/own/publish", json={}, headers=match)

    assert (own.status_code, own.json()["code"]) == (403, "second_person_required")
    assert other.status_code == 200, other.text
    entries = (await api.owner.get("/api/v1/audit")).json()
    assert "workflow.published" in json.dumps(entries)


async def test_a_draft_may_be_wrong_and_says_so_and_is_not_published(api: Api) -> None:
    first = await added(api, {"id": "a", "kind": "teleport"})

    assert first.json()["problems"][0].startswith("step a: kind: there is no step kind 'teleport'")
    for action in ("validate", "publish"):
        answer = await api.owner.post(f"/api/v1/workflows/own/{action}", json={}, headers={"if-match": "1"})
        assert (answer.status_code, answer.json()["code"]) == (422, "definition_invalid")


async def test_a_trial_says_what_would_happen_and_keeps_nothing(api: Api) -> None:
    await added(api, SEND, {**CALL, "when": "steps.sms.output.outcome != 'sent'"})
    event = {"data": {"contact_id": "00000000-0000-4000-8000-00000000c0de"}}

    answer = await api.owner.post("/api/v1/workflows/own/test", json={"event": event})
    pinned = await api.owner.post(
        "/api/v1/workflows/own/test", json={"event": event, "pins": {"sms": {"outcome": "suppressed"}}}
    )

    found = answer.json()
    assert (found["state"], found["messages"][0]["text"], found["took"]) == ("succeeded", "Hi", "PT0S")
    assert {one["path"]: one["state"] for one in pinned.json()["steps"]} == {"sms": "succeeded", "call": "succeeded"}
    assert pinned.json()["tasks"][0]["title"] == "Call"
    assert (await api.owner.get("/api/v1/executions")).json()["items"] == []
    wrong = await api.owner.post("/api/v1/workflows/own/test", json={"time_zone": "Mars/Olympus"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "time_zone")


async def test_what_is_exported_can_be_imported(api: Api) -> None:
    yaml = {"content-type": "application/yaml"}
    await added(api)
    await api.owner.post("/api/v1/workflows/own/publish", json={}, headers={"if-match": "1"})

    as_yaml = await api.owner.get("/api/v1/workflows/own/export")
    as_json = await api.owner.get("/api/v1/workflows/own/export", params={"format": "json", "version": "1"})
    back = await api.owner.post("/api/v1/workflows/import", content=as_yaml.text, headers=yaml)
    copy = await api.owner.post(
        "/api/v1/workflows/import", content=as_json.text.replace('"own"', '"copy"'),
        headers={"content-type": "application/json"},
    )  # fmt: skip
    bomb = await api.owner.post("/api/v1/workflows/import", content="a: &a [1]\nb: *a", headers=yaml)

    assert (back.status_code, back.json()["definition"]) == (200, definition())
    assert (copy.json()["key"], copy.json()["revision"]) == ("copy", 1)
    assert (bomb.status_code, "aliases are not allowed" in bomb.json()["detail"]) == (422, True)
    schema = (await api.owner.get("/api/v1/workflows/schema")).json()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


async def test_foreigners_and_staff_neither_see_nor_write_drafts(api: Api) -> None:
    await added(api)
    body = {"definition": definition()}

    assert (await api.foreigner.get("/api/v1/workflows/own/draft")).status_code == 404
    assert (await api.foreigner.put("/api/v1/workflows/own/draft", json=body)).status_code == 404
    assert (await api.member(Role.STAFF).put("/api/v1/workflows/own/draft", json=body)).status_code == 403
    assert (await api.anonymous.get("/api/v1/workflows/schema")).status_code == 401
