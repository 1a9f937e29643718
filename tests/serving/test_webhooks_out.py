"""Outbound webhooks over the API: made, signed, rotated, switched off with an alert, delivered again."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import standardwebhooks
from sqlalchemy import select

from auterity_dagster.identity.permission import Role
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.serving.webhook_delivery import WebhookDeliveries
from auterity_dagster.settings import ApiSettings
from auterity_dagster.storage.repositories import outbox_relay
from auterity_dagster.storage.repositories.outbox import announcement
from auterity_dagster.storage.tables.workflows import OutboxRow
from tests.fakes.recording_service import Asked, RecordingService, recording_service
from tests.serving.conftest import Api


@pytest.fixture(scope="module")
def receiver() -> Iterator[RecordingService]:
    with recording_service() as service:
        yield service


@pytest.fixture
def api_settings(api_settings: ApiSettings, receiver: RecordingService) -> ApiSettings:
    """The operator lets this API reach the receiver."""
    return api_settings.model_copy(update={"outbound_private_origins": receiver.url, "webhooks_every_s": 3600.0})


@pytest.fixture
def listening(receiver: RecordingService) -> RecordingService:
    receiver.answers, receiver.asked = [(200, {})], []
    return receiver


async def made(api: Api, receiver: RecordingService, *topics: str) -> dict[str, Any]:
    body = {"url": f"{receiver.url}/hook", "topics": topics or ("leads",)}
    answer = await api.owner.post("/api/v1/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def happen(api: Api, topic: str = "leads", kind: str = "lead.received", **payload: str) -> None:
    organization_id = api.organization_id
    async with api.state.database.begin(organization_id) as session:
        shown = payload or {"lead_id": "l1"}
        await session.execute(announcement(organization_id, topic=topic, kind=kind, payload=shown, now=api.clock.now()))
    async with api.state.database.begin(organization_id) as session:
        await outbox_relay.number(session)


def owner(api: Api) -> httpx.AsyncClient:
    """The owner, signed in again: the clock went on."""
    return api.client(api.state.access_tokens.issue(api.owner_id, organization_id=api.organization_id, epoch=0))


def worker(api: Api) -> WebhookDeliveries:
    http = PublicHttp(private_origins=api.state.settings.private_origins)
    return WebhookDeliveries(
        api.state.database, http, pepper=api.state.pepper, clock=api.clock, jitter=lambda: 0.5, timeout_s=2
    )


async def test_an_event_arrives_signed_in_an_envelope(api: Api, listening: RecordingService) -> None:
    hook = await made(api, listening)
    await happen(api, lead_id="l1", dealership_id="d1")

    await worker(api).turn()

    (asked,) = listening.asked
    event = standardwebhooks.Webhook(hook["secret"]).verify(asked.body, asked.headers)
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "com.auterity.lead.received", "leads/l1")
    assert (event["source"], event["data"]["lead_id"], event["id"]) == (
        "/dealerships/d1", "l1", asked.headers["webhook-id"],
    )  # fmt: skip
    listed = (await api.owner.get(f"/api/v1/webhooks/{hook['id']}/deliveries")).json()
    assert [(one["state"], one["attempts"], one["last_status"]) for one in listed] == [("delivered", 1, 200)]


async def test_only_what_was_asked_for_arrives_and_only_from_then_on(api: Api, listening: RecordingService) -> None:
    await happen(api, lead_id="before")
    await made(api, listening, "steps")
    await happen(api, lead_id="other")
    await happen(api, "execution/e1", "execution.moved", execution_id="e1")
    await happen(api, "execution/e1", "execution.step", execution_id="e1")

    await worker(api).turn()

    assert [b'"type":"com.auterity.execution.step"' in asked.body for asked in listening.asked] == [True]


async def test_after_a_rotation_both_secrets_fit_for_a_day(api: Api, listening: RecordingService) -> None:
    hook = await made(api, listening)
    rotated = (await api.owner.post(f"/api/v1/webhooks/{hook['id']}/rotate")).json()
    await happen(api, lead_id="l1")
    await worker(api).turn()
    api.clock.advance(24 * 3600 + 1)
    await happen(api, lead_id="l2")
    await worker(api).turn()

    def fits(secret: str, asked: Asked) -> bool:
        given = asked.headers["webhook-signature"].split(" ")
        at = float(asked.headers["webhook-timestamp"])
        signed = standardwebhooks.Webhook(secret).sign(
            asked.headers["webhook-id"], datetime.fromtimestamp(at, UTC), asked.body.decode()
        )
        return signed in given

    first, second = listening.asked
    assert [fits(hook["secret"], first), fits(rotated["secret"], first)] == [True, True]
    assert [fits(hook["secret"], second), fits(rotated["secret"], second)] == [False, True]


async def test_eight_failures_switch_it_off_with_an_alert_and_redelivery_loses_nothing(
    api: Api, listening: RecordingService
) -> None:
    hook = await made(api, listening)
    listening.answers = [(500, {})]
    await happen(api, lead_id="l1")
    for _attempt in range(12):
        await worker(api).turn()
        api.clock.advance(8 * 3600)
    await happen(api, lead_id="l2")
    await worker(api).turn()

    (listed,) = (await owner(api).get("/api/v1/webhooks")).json()
    assert len(listening.asked) == 8
    assert (listed["state"], listed["off_reason"]) == ("off", "8 attempts failed: the receiver answered 500")
    async with api.state.database.begin(api.organization_id) as session:
        kinds = (await session.scalars(select(OutboxRow.type))).all()
    assert "webhook.switched_off" in kinds

    listening.answers = [(200, {})]
    again = await owner(api).post(f"/api/v1/webhooks/{hook['id']}/redeliver")
    await worker(api).turn()

    assert again.json() == {"deliveries": 1}
    arrived = [asked.body for asked in listening.asked[8:]]  # only events of one subject keep their order
    assert sorted(b"leads/l1" in body for body in arrived) == [False, True]
    assert sum(b"leads/l2" in body for body in arrived) == 1


async def test_a_receiver_that_is_gone_is_asked_once(api: Api, listening: RecordingService) -> None:
    await made(api, listening)
    listening.answers = [(410, {})]
    await happen(api)

    for _turn in range(3):
        await worker(api).turn()
        api.clock.advance(3600)

    assert len(listening.asked) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://[::1]/", "https://10.0.0.1/", "ftp://x.com/"])
async def test_an_address_inside_is_refused(api: Api, url: str) -> None:
    answer = await api.owner.post("/api/v1/webhooks", json={"url": url, "topics": ["leads"]})

    assert (answer.status_code, answer.json()["code"]) == (422, "blocked_address")


async def test_others_see_and_change_nothing(api: Api, listening: RecordingService) -> None:
    hook = await made(api, listening)

    assert (await api.foreigner.get("/api/v1/webhooks")).json() == []
    for answer in (
        await api.foreigner.get(f"/api/v1/webhooks/{hook['id']}/deliveries"),
        await api.foreigner.post(f"/api/v1/webhooks/{hook['id']}/redeliver"),
        await api.foreigner.post(f"/api/v1/webhooks/{hook['id']}/rotate"),
        await api.foreigner.delete(f"/api/v1/webhooks/{hook['id']}"),
    ):
        assert answer.status_code == 404
    assert (await api.member(Role.STAFF).get("/api/v1/webhooks")).status_code == 403
    assert (await api.owner.delete(f"/api/v1/webhooks/{hook['id']}")).status_code == 204
