"""Over the API: connections whose secrets nobody reads, texts that come in signed, consents, suppressions, recalls."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from auterity_dagster.identity.permission import Role
from auterity_dagster.serving.sms_signature import sms_signature
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from auterity_dagster.storage.tables.connections import ConnectionRow
from auterity_dagster.storage.tables.identity import AuditEntryRow
from tests.fakes.workflow_world import CONTACT, Dealership, customer
from tests.serving.conftest import Api

TOKEN = "the-auth-token-of-the-service"
SMS = {"kind": "sms", "account_sid": "AC1", "from_number": "+13125550100"}


@pytest.fixture
def dealership_id(api: Api) -> UUID:
    with api.database.begin(api.organization_id) as session:
        dealership_id = add_dealership_blocking(session, DealershipDetails("Lakeside Honda", "America/Chicago"))
        session.execute(customer(Dealership(None, api.organization_id, dealership_id, api.owner_id, api.clock), 1))
    return dealership_id


async def connected(api: Api, name: str = "texts", settings: Any = SMS, secret: str | None = TOKEN) -> dict[str, Any]:
    body = {"name": name, "settings": settings} | ({"secret": secret} if secret else {})
    answer = await api.owner.post("/api/v1/connections", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def text_in(
    api: Api, connection_id: str, body: str, *, sid: str = "SM1", token: str = TOKEN, **changed: str
) -> httpx.Response:
    """Post a text as the service does; `changed` fields differ from what was signed."""
    path = f"/api/v1/providers/sms/{connection_id}"
    fields = {"MessageSid": sid, "From": "+13125550141", "To": "+13125550100", "Body": body}
    signature = sms_signature(token, url=f"https://auterity.test{path}", fields=fields.items())
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return await api.anonymous.post(path, content=urlencode({**fields, **changed}), headers=headers)


async def thread(api: Api) -> list[dict[str, Any]]:
    return (await api.owner.get(f"/api/v1/contacts/{CONTACT}/messages")).json()


async def test_a_secret_goes_in_and_never_comes_out(api: Api) -> None:
    made = await connected(api)
    listed = await api.owner.get("/api/v1/connections")
    changed = await api.owner.put("/api/v1/connections/texts/secret", json={"secret": "another-secret-0123456789"})

    assert TOKEN not in listed.text
    assert (made["has_secret"], made["secret_hint"], made["is_live"]) == (True, TOKEN[-4:], False)
    assert changed.status_code == 204
    with api.database.begin(api.organization_id) as session:
        entries = session.scalars(select(AuditEntryRow)).all()
        (row,) = session.scalars(select(ConnectionRow)).all()
    assert TOKEN.encode() not in (row.sealed or b"")
    assert not any(TOKEN in str(entry.details) for entry in entries)
    assert {"connection.created", "connection.secret_changed"} <= {entry.action for entry in entries}


@pytest.mark.parametrize(
    "base_url", ["http://example.com", "https://127.0.0.1", "https://example.com:8443", "https://u:p@example.com"]
)
async def test_an_address_that_may_not_be_called_is_refused_at_once(api: Api, base_url: str) -> None:
    body = {"name": "inside", "settings": {"kind": "http", "base_url": base_url}}

    answer = await api.owner.post("/api/v1/connections", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "blocked_address")


async def test_one_connection_of_a_kind_is_live_and_only_an_administrator_says_so(api: Api) -> None:
    await connected(api)
    await connected(api, "more_texts")
    developer = api.member(Role.DEVELOPER)
    live = {"is_live": True}

    refused = await developer.put("/api/v1/connections/texts/live", json=live)
    first = await api.owner.put("/api/v1/connections/texts/live", json=live)
    second = await api.owner.put("/api/v1/connections/more_texts/live", json=live)

    assert (refused.status_code, first.status_code, second.status_code) == (403, 204, 409)


async def test_another_organization_sees_no_connection(api: Api) -> None:
    await connected(api)

    assert (await api.foreigner.get("/api/v1/connections")).json() == []
    assert (await api.foreigner.delete("/api/v1/connections/texts")).status_code == 404
    assert (await api.foreigner.post("/api/v1/connections/texts/test")).status_code == 404
    assert (await api.anonymous.get("/api/v1/connections")).status_code == 401


async def test_stop_holds_before_it_is_answered_and_start_takes_it_back(api: Api, dealership_id: UUID) -> None:
    connection = await connected(api)

    stopped = await text_in(api, connection["id"], "STOP")
    (suppression,) = (await api.owner.get("/api/v1/suppressions")).json()
    api.clock.advance(60)
    started = await text_in(api, connection["id"], "start", sid="SM2")

    assert (stopped.status_code, stopped.headers["content-type"]) == (200, "text/xml; charset=utf-8")
    assert (suppression["reason"], suppression["channel"], suppression["state"]) == ("opted_out", "sms", "in_force")
    assert suppression["rules"] == ["us-revocation"]
    assert started.status_code == 200
    assert [one["state"] for one in (await api.owner.get("/api/v1/suppressions")).json()] == ["lifted"]
    assert [(one["direction"], one["text"]) for one in await thread(api)] == [("in", "start"), ("in", "STOP")]


async def test_a_text_that_is_not_signed_changes_nothing(api: Api, dealership_id: UUID) -> None:
    connection = await connected(api)
    foreign = "7c8ad1a4-26b8-4c2e-9f0f-4f3f6f3a8a51"

    answers = [
        await text_in(api, connection["id"], "STOP", token="another"),
        await text_in(api, connection["id"], "Hi", Body="STOP"),
        await text_in(api, connection["id"], "Hi", From="+13125550199"),
        await text_in(api, foreign, "STOP"),
        await api.anonymous.post(f"/api/v1/providers/sms/{connection['id']}", content=b"\xff\xfe"),
    ]

    assert [(one.status_code, one.json()["code"]) for one in answers] == [(401, "invalid_signature")] * 5
    assert (await api.owner.get("/api/v1/suppressions")).json() == []
    assert await thread(api) == []


async def test_a_person_confirms_or_lifts_what_was_read_out_of_other_words(api: Api, dealership_id: UUID) -> None:
    connection = await connected(api)
    await text_in(api, connection["id"], "please leave me alone")
    (found,) = (await api.owner.get("/api/v1/suppressions", params={"state": "to_confirm"})).json()
    route = f"/api/v1/suppressions/{found['id']}"

    staff = await api.member(Role.STAFF).put(route, json={"state": "lifted"})
    lifted = await api.owner.put(route, json={"state": "lifted"})
    again = await api.owner.put(route, json={"state": "in_force"})

    assert (staff.status_code, lifted.status_code, again.status_code) == (403, 204, 409)


async def test_a_consent_is_granted_shown_and_taken_back(api: Api, dealership_id: UUID) -> None:
    route = f"/api/v1/contacts/{CONTACT}/consents"
    write = {"channel": "sms", "level": "written", "evidence": "Form signed in the store"}

    granted = await api.owner.post(route, json=write)
    taken_back = await api.owner.delete(f"{route}/{granted.json()}")
    again = await api.owner.delete(f"{route}/{granted.json()}")

    assert (granted.status_code, taken_back.status_code, again.status_code) == (201, 204, 404)
    (shown,) = (await api.owner.get(route)).json()
    assert (shown["level"], shown["revoked_at"] is not None) == ("written", True)
    assert (await api.foreigner.get(route)).status_code == 404


async def test_a_contact_is_found_by_address_and_an_address_can_be_suppressed(api: Api, dealership_id: UUID) -> None:
    found = await api.owner.get("/api/v1/contacts", params={"address": "(312) 555-0141"})
    suppressed = await api.owner.post(
        "/api/v1/suppressions", json={"address": "(312) 555-0141", "evidence": "Asked on the telephone"}
    )
    nothing = await api.owner.post("/api/v1/suppressions", json={"address": "nobody", "evidence": "x"})

    assert [one["id"] for one in found.json()] == [str(CONTACT)]
    assert (suppressed.status_code, nothing.status_code) == (201, 422)
    assert (await api.foreigner.get("/api/v1/contacts", params={"address": "+13125550141"})).json() == []


async def test_a_day_s_recalls_are_imported_and_bad_rows_are_listed(api: Api) -> None:
    header = "campaign,make,vehicle_model,year,summary,remedy\n"
    body = header + "26V001,Honda,CR-V,2026,Pump,Replace\n26V002,Honda,CR-V,soon,Pump,Replace\n"

    async def post(text: str, day: str) -> httpx.Response:
        return await api.owner.post(
            f"/api/v1/ingest/recalls?as_of={day}", content=text.encode(), headers={"content-type": "text/csv"}
        )

    taken = await post(body, "2026-11-20")
    older = await post(body, "2026-11-19")
    empty = await post(header, "2026-11-21")

    assert taken.json() == {
        "taken": 1,
        "as_of": "2026-11-20",
        "bad_rows": [{"row": 2, "field": "year", "reason": "a year such as 2021 was expected"}],
    }
    assert (older.status_code, empty.status_code) == (409, 422)
