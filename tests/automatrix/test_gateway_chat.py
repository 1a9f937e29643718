"""What a step sends to the gateway, and what each of its answers means to a step."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest

from auterity_dagster.automatrix.ports import ChatCall, ChatFailed
from auterity_dagster.resources.gateway_chat import GatewayChat
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import create_organization
from tests.fakes.clock import FakeClock

PEPPER = bytes(32)


class Gateway(ThreadingHTTPServer):
    """Answers what it is told and keeps what it was asked."""

    status = 200
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}
    asked: list[tuple[dict[str, str], dict[str, Any]]]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        gateway = self.server
        assert isinstance(gateway, Gateway)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        gateway.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answer = json.dumps(gateway.body).encode()
        self.send_response(gateway.status)
        for name, value in {"content-type": "application/json", **gateway.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway(("127.0.0.1", 0), Handler)
    server.asked = []
    server.headers = {"x-auterity-deployment": "sandbox-small", "x-auterity-cost-nusd": "4321"}
    server.body = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def organization_id(blocking_database: BlockingDatabase) -> UUID:
    return create_organization(
        blocking_database, name="o", owner_email="o@example.test", owner_password="a long walk by the river",
        pepper=PEPPER, clock=FakeClock(),
    ).organization_id  # fmt: skip


@pytest.fixture
def chat(gateway: Gateway, blocking_database: BlockingDatabase) -> Iterator[GatewayChat]:
    chat = GatewayChat(blocking_database, gateway_url=f"http://127.0.0.1:{gateway.server_port}", pepper=PEPPER)
    yield chat
    chat.close()


def call(organization_id: UUID) -> ChatCall:
    return ChatCall(
        organization_id=organization_id, dealership_id=UUID(int=7), task="lead_reply", model="auto", system="s",
        user="u", max_output_tokens=96, timeout_s=5, idempotency_key="e:draft:1",
    )  # fmt: skip


def test_a_call_names_task_purpose_dealership_and_its_own_key(
    chat: GatewayChat, gateway: Gateway, organization_id: UUID
) -> None:
    reply = chat.complete(call(organization_id))

    ((headers, body),) = gateway.asked
    assert headers["authorization"].startswith("Bearer auty_")
    assert headers["idempotency-key"] == "e:draft:1"
    assert (headers["x-auterity-task"], headers["x-auterity-purpose"]) == ("lead_reply", "workflow")
    assert headers["x-auterity-dealership"] == str(UUID(int=7))
    assert (body["model"], body["max_tokens"]) == ("auto", 96)
    assert (reply.text, reply.deployment, reply.cost_nusd) == ("Hello", "sandbox-small", 4321)
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 2)


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (429, "rate_limited", "rate_limited"), (402, "budget_exceeded", "budget_exceeded"),
        (429, "budget_exceeded", "budget_exceeded"), (503, "unavailable", "overloaded"),
        (502, "upstream_error", "provider_error"), (504, "upstream_timeout", "timeout"),
        (422, "invalid_request", "invalid_input"),
    ],
)  # fmt: skip
def test_each_refusal_is_one_of_a_steps_own_errors(
    chat: GatewayChat, gateway: Gateway, organization_id: UUID, status: int, error: str, code: str
) -> None:
    gateway.status, gateway.body = status, {"error": {"message": "no", "type": "x", "code": error}}
    gateway.headers = {"retry-after": "3"}

    with pytest.raises(ChatFailed) as caught:
        chat.complete(call(organization_id))

    assert (caught.value.code, caught.value.retry_after_s) == (code, 3.0)
    assert len(gateway.asked) == 1


def test_an_answer_without_a_price_is_no_answer(chat: GatewayChat, gateway: Gateway, organization_id: UUID) -> None:
    gateway.headers = {}

    with pytest.raises(ChatFailed, match="without text, usage, deployment or cost"):
        chat.complete(call(organization_id))


def test_an_organization_without_a_key_of_its_own_asks_nobody(chat: GatewayChat, gateway: Gateway) -> None:
    with pytest.raises(ChatFailed, match="no system key"):
        chat.complete(call(uuid4()))

    assert gateway.asked == []
