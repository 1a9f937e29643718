"""`http_request` and `crm_update` against a service that records: once, with the secret, and never inside."""

import json
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from auterity_dagster.automatrix.adf import read_adf
from auterity_dagster.automatrix.connection import SETTINGS
from auterity_dagster.automatrix.lead import Lead
from auterity_dagster.automatrix.lead_judgement import ReadingContext
from auterity_dagster.automatrix.publication import DefinitionInvalid
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.storage.repositories import connections
from auterity_dagster.storage.tables.workflows import ExecutionRow, SideEffectRow, StepResultRow, TaskRow
from tests.fakes.recording_service import RecordingService, recording_service
from tests.fakes.workflow_rows import rows_of, the_only
from tests.fakes.workflow_world import PEPPER, Dealership, World, install_workflow, one_step, run_async

SECRET = "sk-live-0123456789abcdef"


@pytest.fixture
def service() -> Iterator[RecordingService]:
    with recording_service() as service:
        yield service


@pytest.fixture
def outside(world: World, service: RecordingService) -> World:
    world.http = PublicHttp(private_origins=frozenset({service.url}))
    return world


def connect(dealership: Dealership, name: str, secret: str | None = SECRET, **settings: Any) -> None:
    run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: connections.add(
            session,
            name,
            SETTINGS.validate_python(settings),
            secret=secret,
            pepper=PEPPER,
            now=dealership.clock.now(),
        ),
    )


def request(**inputs: Any) -> dict[str, Any]:
    return {
        "id": "ask",
        "kind": "http_request",
        "retry": {"max_attempts": 2, "initial": "PT1S"},
        "with": {"connection": "valuation", "path": "/v1/values", **inputs},
    }


def crm(**inputs: Any) -> dict[str, Any]:
    fields = {"name": "${{ event.data.customer_name }}", "phone": "+13125550141", "source": "web & <chat>"}
    return {
        "id": "write",
        "kind": "crm_update",
        "with": {"connection": "crm", "operation": "lead", "fields": fields, **inputs},
    }


def ran(world: World, dealership: Dealership, step: dict[str, Any]) -> Any:
    install_workflow(dealership, one_step(step))
    dealership.lead()
    world.turn("custom_workflow")
    return the_only(world, dealership, ExecutionRow)


def test_a_get_carries_the_secret_and_gives_status_and_json(
    outside: World, dealership: Dealership, service: RecordingService
) -> None:
    connect(dealership, "valuation", kind="http", base_url=f"{service.url}/api", scheme="bearer")
    service.answers = [(200, {"value_usd": 21_500})]

    row = ran(outside, dealership, request(query={"q": "${{ event.data.comments }}&x=1"}))

    (asked,) = service.asked
    assert row.state == "succeeded"
    assert (asked.method, asked.headers["authorization"]) == ("GET", f"Bearer {SECRET}")
    assert asked.path == "/api/v1/values?q=Is+the+CR-V+still+there%3F%26x%3D1"
    assert "idempotency-key" not in asked.headers
    assert the_only(outside, dealership, StepResultRow).output == {"status": 200, "json": {"value_usd": 21_500}}
    assert rows_of(outside, dealership, SideEffectRow) == []


@pytest.mark.parametrize(
    ("scheme", "header", "value"),
    [("header", "x-api-key", SECRET), ("basic", "authorization", "Basic dTpzay1saXZlLTAxMjM0NTY3ODlhYmNkZWY=")],
)
def test_the_secret_goes_where_the_service_wants_it(
    outside: World, dealership: Dealership, service: RecordingService, scheme: str, header: str, value: str
) -> None:
    connect(dealership, "valuation", kind="http", base_url=service.url, scheme=scheme, username="u")

    ran(outside, dealership, request())

    assert service.asked[0].headers[header] == value


def test_another_method_carries_one_key_through_its_retries(
    outside: World, dealership: Dealership, service: RecordingService
) -> None:
    connect(dealership, "valuation", kind="http", base_url=service.url, honours_idempotency_key=True)
    service.answers = [(503, {}), (201, {"ok": True})]

    row = ran(outside, dealership, request(method="POST", json={"vin": "${{ event.data.dedupe_key }}"}))

    assert (row.state, len(service.asked)) == ("succeeded", 2)
    assert len({asked.headers["idempotency-key"] for asked in service.asked}) == 1
    assert json.loads(service.asked[0].body) == {"vin": "adf:carhaven:1"}
    effect = the_only(outside, dealership, SideEffectRow)
    assert (effect.state, effect.provider_ref) == ("confirmed", "201")


@pytest.mark.parametrize("answer", [None, (503, {})], ids=["hangs up", "fails inside"])
def test_where_the_key_is_not_heeded_an_open_end_is_asked_about_and_not_repeated(
    outside: World, dealership: Dealership, service: RecordingService, answer: Any
) -> None:
    connect(dealership, "valuation", kind="http", base_url=service.url)
    service.answers = [answer]

    row = ran(outside, dealership, request(method="POST", json={}))

    assert (row.state, row.error["code"], len(service.asked)) == ("failed", "unknown_effect", 1)
    assert the_only(outside, dealership, SideEffectRow).state == "unknown"
    assert the_only(outside, dealership, TaskRow).title == "Did this request take effect?"


def test_a_clean_refusal_that_passes_is_tried_again(
    outside: World, dealership: Dealership, service: RecordingService
) -> None:
    connect(dealership, "valuation", kind="http", base_url=service.url)
    service.answers = [(429, {}), (200, {})]

    row = ran(outside, dealership, request(method="POST", json={}))

    assert (row.state, len(service.asked)) == ("succeeded", 2)
    assert the_only(outside, dealership, SideEffectRow).state == "confirmed"


@pytest.mark.parametrize(("status", "expect", "state"), [(404, [], "failed"), (404, [404], "succeeded")])
def test_a_status_is_an_error_unless_it_is_expected(
    outside: World, dealership: Dealership, service: RecordingService, status: int, expect: list[int], state: str
) -> None:
    connect(dealership, "valuation", kind="http", base_url=service.url)
    service.answers = [(status, b"not json")]

    assert ran(outside, dealership, request(expect=expect)).state == state


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:9/", "https://localhost", "https://169.254.169.254/latest"])
def test_an_address_inside_is_blocked(world: World, dealership: Dealership, base_url: str) -> None:
    connect(dealership, "valuation", kind="http", base_url=base_url)

    row = ran(world, dealership, request())

    assert (row.state, row.error["code"]) == ("failed", "blocked_address")


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"path": "//evil.example/x"}, "path: String should match pattern"),
        ({"path": "/a/../../x"}, "path: String should match pattern"),
        ({"path": "/x?y"}, "path: String should match pattern"),
        ({"path": "http://evil.example/"}, "path: String should match pattern"),
        ({"path": "${{ steps.before.output.make }}"}, "path may come from the event or a variable"),
        ({"connection": "${{ steps.before.output.make }}"}, "connection may come from the event or a variable"),
        ({"method": "TRACE"}, "method: Input should be 'GET', 'POST'"),
    ],
)
def test_where_a_request_goes_is_fixed_at_publication(inputs: dict[str, Any], problem: str) -> None:
    before = {"id": "before", "kind": "vin_decode", "with": {"vin": "x"}}

    with pytest.raises(DefinitionInvalid) as caught:
        one_step(before, request(**inputs))

    assert problem in caught.value.message


def test_a_connection_that_nobody_made_leaves_nothing_open(world: World, dealership: Dealership) -> None:
    row = ran(world, dealership, request(method="POST", json={}))

    assert (row.state, row.error["code"]) == ("failed", "invalid_input")
    assert the_only(world, dealership, SideEffectRow).state == "failed"


def test_the_crm_names_what_it_wrote(outside: World, dealership: Dealership, service: RecordingService) -> None:
    connect(dealership, "crm", kind="crm_http", base_url=service.url)

    row = ran(outside, dealership, crm())

    (asked,) = service.asked
    assert (row.state, asked.path, asked.headers.get("idempotency-key") is not None) == ("succeeded", "/lead", True)
    assert json.loads(asked.body)["fields"]["name"] == "Marisol Teague"
    assert the_only(outside, dealership, StepResultRow).output == {"external_id": "crm-1"}


@pytest.mark.parametrize(
    ("answer", "code", "state"),
    [
        ((409, {}), "conflict", "failed"),
        ((500, {}), "unknown_effect", "unknown"),
        (None, "unknown_effect", "unknown"),
    ],
    ids=["conflict", "fails inside", "hangs up"],
)
def test_what_a_crm_refused_is_known_and_what_it_left_open_is_asked(
    outside: World, dealership: Dealership, service: RecordingService, answer: Any, code: str, state: str
) -> None:
    connect(dealership, "crm", kind="crm_http", base_url=service.url)
    service.answers = [answer]

    row = ran(outside, dealership, crm())

    assert (row.error["code"], the_only(outside, dealership, SideEffectRow).state) == (code, state)


def test_any_crm_gets_an_adf_mail_that_our_own_reader_reads(world: World, dealership: Dealership) -> None:
    connect(dealership, "crm", secret=None, kind="crm_adf", address="leads@crm.example.com")

    row = ran(world, dealership, crm(operation="note"))

    ((key, message),) = world.messenger.sent
    assert row.state == "succeeded"
    assert (message.channel, message.address, key) == ("email", "leads@crm.example.com", f"{row.id}:write")
    context = ReadingContext(received_at=world.clock.now(), zone=ZoneInfo("UTC"))
    (lead,) = read_adf(message.text.encode(), context=context)
    assert isinstance(lead, Lead)
    assert (lead.name, lead.comments) == ("Marisol Teague", "[note]\nsource: web & <chat>")


def test_a_connection_of_another_kind_is_no_crm(world: World, dealership: Dealership) -> None:
    connect(dealership, "crm", kind="http", base_url="https://example.com")

    assert ran(world, dealership, crm()).error["code"] == "invalid_input"


def test_a_secret_is_sealed_in_its_row(world: World, dealership: Dealership) -> None:
    connect(dealership, "crm", kind="crm_http", base_url="https://example.com")

    with world.database.begin(dealership.organization_id) as session:
        (row,) = session.scalars(connections.select(connections.ConnectionRow)).all()
        assert SECRET.encode() not in (row.sealed or b"")
        assert connections.secret_blocking(session, row.id, pepper=PEPPER) == SECRET
    assert row.secret_hint == SECRET[-4:]
