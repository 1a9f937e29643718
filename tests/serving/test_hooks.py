"""Webhooks end to end: signed bytes in, rows out; nothing is taken twice and nothing unsigned is taken."""

import asyncio
import json
from datetime import timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from auterity_dagster.serving.delivery import judge_the_rest
from auterity_dagster.storage.repositories import inbound_events
from auterity_dagster.storage.repositories.inbound_events import Delivery
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from auterity_dagster.storage.sealing import Cell, unseal
from auterity_dagster.storage.tables.inbound import ContactRow, InboundEventRow, LeadRow, VaultRow
from auterity_dagster.storage.tables.workflows import ExecutionRow
from tests.fakes.lead_sender import LeadSender
from tests.serving.conftest import Api

SAMPLES = files("auterity_dagster.automatrix") / "samples"
EXPECTED = {
    line["file"]: line for line in map(json.loads, (SAMPLES / "expected.jsonl").read_text("utf-8").splitlines())
}


def sample(number: int) -> bytes:
    return (SAMPLES / f"lead_{number:02}.xml").read_bytes()


def dealership(api: Api, *, organization_id: UUID | None = None) -> UUID:
    with api.database.begin(organization_id or api.organization_id) as session:
        return add_dealership_blocking(session, DealershipDetails(f"Lakeside {uuid4()}", "America/Chicago"))


async def sender(api: Api, kind: str = "adf") -> LeadSender:
    made = await api.owner.post(
        "/api/v1/webhook-sources", json={"dealership_id": str(dealership(api)), "name": "CarHaven", "kind": kind}
    )
    assert made.status_code == 201, made.text
    content_type = "application/xml" if kind == "adf" else "application/json"
    return LeadSender(api.anonymous, UUID(made.json()["id"]), made.json()["secret"], content_type)


async def install(api: Api) -> None:
    installed = await api.owner.post("/api/v1/templates/lead_response/install", json={"variables": {}})
    assert installed.status_code == 201, installed.text


def count(api: Api, table: type[Any]) -> int:
    with api.database.begin(api.organization_id) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


async def test_all_twenty_samples_become_what_their_readme_says(api: Api) -> None:
    await install(api)
    hook = await sender(api)

    answers = {number: await hook.post(sample(number), at=api.clock.now()) for number in range(1, 21)}

    assert {answer.status_code for answer in answers.values()} == {202}
    states = {number: answer.json()["state"] for number, answer in answers.items()}
    quarantined = {number for number, state in states.items() if state == "quarantined"}
    assert quarantined == {13, 18, 19}
    assert states[15] == "duplicate"
    found = (await api.owner.get("/api/v1/leads?limit=200")).json()["items"]
    expected = {
        lead["dedupe_key"]: lead for line in EXPECTED.values() for lead in line.get("leads", ()) if "flags" in lead
    }
    assert {lead["dedupe_key"]: (lead["customer_name"], lead["flags"]) for lead in found} == {
        key: (lead["name"], lead["flags"]) for key, lead in expected.items()
    }
    # One event, one execution and no more for each lead; the copies of one sender's key made none.
    assert count(api, ExecutionRow) == count(api, LeadRow) == len(expected) == 18


async def test_why_a_document_is_quarantined_is_told_with_its_line(api: Api) -> None:
    hook = await sender(api)
    for number in (13, 18, 19):
        await hook.post(sample(number), at=api.clock.now())

    listed = (await api.owner.get("/api/v1/inbound", params={"state": "quarantined"})).json()["items"]

    told = {(one["reason"], one["line"]) for one in listed}
    assert told == {("no_way_to_reply", None), ("not_well_formed", 19), ("entity_forbidden", 2)}


async def test_credit_values_are_in_the_vault_and_nowhere_else_in_the_database(api: Api) -> None:
    await install(api)
    hook = await sender(api)
    await hook.post(sample(14), at=api.clock.now())

    with api.database.begin(api.organization_id) as session:
        rows = list(session.scalars(select(VaultRow)))
        opened = {
            row.kind: unseal(api.state.pepper, row.sealed, cell=Cell(row.organization_id, "vault", "sealed", row.id))
            for row in rows
        }
        stored = [
            repr({name: value for name, value in vars(row).items() if not name.startswith("_")})
            for table in (LeadRow, ContactRow, ExecutionRow, InboundEventRow)
            for row in session.scalars(select(table))
        ]
    assert opened["ssn"] == b"987-65-4321"
    assert len(stored) == 4
    assert [text for text in stored if "987-65-4321" in text or "Example Textiles" in text] == []


async def test_the_same_delivery_again_is_answered_alike_and_another_body_is_refused(api: Api) -> None:
    hook = await sender(api)
    first = await hook.post(sample(1), at=api.clock.now(), message_id="msg_1")
    again = await hook.post(sample(1), at=api.clock.now(), message_id="msg_1")
    other = await hook.post(sample(2), at=api.clock.now(), message_id="msg_1")

    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 409)
    assert first.json() == again.json()
    assert (count(api, InboundEventRow), count(api, LeadRow)) == (1, 1)


async def test_one_lead_delivered_many_times_at_once_takes_effect_once(api: Api) -> None:
    await install(api)
    hook = await sender(api)

    answers = await asyncio.gather(*(hook.post(sample(1), at=api.clock.now()) for _ in range(8)))

    assert sorted(answer.json()["state"] for answer in answers) == ["accepted"] + ["duplicate"] * 7
    assert (count(api, LeadRow), count(api, ExecutionRow), count(api, ContactRow)) == (1, 1, 1)


@pytest.mark.parametrize("case", ["forged", "expired", "unknown source", "foreign secret", "unsigned"])
async def test_what_is_not_authentic_is_refused_alike_and_leaves_nothing(api: Api, case: str) -> None:
    hook, other = await sender(api), await sender(api)
    now = api.clock.now()
    match case:
        case "forged":
            answer = await hook.post(sample(1), at=now, secret="whsec_" + "QUFB" * 11)
        case "expired":
            answer = await hook.post(sample(1), at=now - timedelta(seconds=301))
        case "unknown source":
            answer = await LeadSender(api.anonymous, uuid4(), hook.secret).post(sample(1), at=now)
        case "foreign secret":
            answer = await hook.post(sample(1), at=now, secret=other.secret)
        case _:
            answer = await api.anonymous.post(f"/api/v1/hooks/{hook.source_id}", content=sample(1))

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")
    assert count(api, InboundEventRow) == 0


async def test_a_replay_after_five_minutes_is_refused(api: Api) -> None:
    hook, then = await sender(api), api.clock.now()
    assert (await hook.post(sample(1), at=then, message_id="msg_1")).status_code == 202

    api.clock.advance(301)

    assert (await hook.post(sample(1), at=then, message_id="msg_1")).status_code == 401


async def test_a_source_sends_its_own_content_type_only(api: Api) -> None:
    hook = await sender(api)

    answer = await LeadSender(api.anonymous, hook.source_id, hook.secret, "application/json").post(
        sample(1), at=api.clock.now()
    )

    assert answer.status_code == 415
    assert count(api, InboundEventRow) == 0


async def test_a_body_beyond_256_kb_is_refused_before_it_is_read(api: Api) -> None:
    hook = await sender(api)

    assert (await hook.post(b"x" * (256 * 1024 + 1), at=api.clock.now())).status_code == 413


async def test_a_delivery_whose_judge_died_is_judged_later(api: Api) -> None:
    delivery = Delivery(dealership(api), "api:x", None, "msg_1", "adf", sample(1), api.clock.now())
    async with api.state.database.begin(api.organization_id) as session:
        await inbound_events.store(session, delivery, pepper=api.state.pepper)

    api.clock.advance(10)
    await judge_the_rest(api.state.database, pepper=api.state.pepper, clock=api.clock)

    assert count(api, LeadRow) == 1


async def test_a_foreign_organization_sees_nothing_and_changes_nothing(api: Api) -> None:
    hook = await sender(api)
    delivered = await hook.post(sample(13), at=api.clock.now())
    event_id = delivered.json()["inbound_event_id"]

    assert (await api.foreigner.get("/api/v1/inbound")).json()["items"] == []
    assert (await api.foreigner.get("/api/v1/leads")).json()["items"] == []
    assert (await api.foreigner.get("/api/v1/webhook-sources")).json() == []
    accepted = await api.foreigner.post(f"/api/v1/inbound/{event_id}/accept", json={"email": "a@example.com"})
    discarded = await api.foreigner.post(f"/api/v1/inbound/{event_id}/discard", json={})
    assert (accepted.status_code, discarded.status_code) == (404, 404)


async def test_a_source_cannot_be_made_for_a_foreign_dealership(api: Api) -> None:
    foreign = dealership(api, organization_id=api.foreign_organization_id)

    made = await api.owner.post(
        "/api/v1/webhook-sources", json={"dealership_id": str(foreign), "name": "X", "kind": "adf"}
    )

    assert made.status_code == 404


async def test_the_secret_is_shown_once(api: Api) -> None:
    hook = await sender(api)

    assert hook.secret not in (await api.owner.get("/api/v1/webhook-sources")).text
