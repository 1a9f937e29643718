"""Errors reach each SDK as its own exceptions, streamed or not, with our codes; nothing is left out in silence."""

from typing import Any

import anthropic
import openai
import pytest

from tests.fakes.gateway_thread import RunningGateway
from tests.serving.conformance.conftest import Kind
from tests.serving.conformance.prompts import CHAT, PNG, QUESTION

MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
CLAUDE, GPT = "claude-opus-5-5", "gpt-6.2-sol"


@pytest.fixture
def faultless(gateway: RunningGateway) -> Any:
    """The fault dial, turned back afterwards."""
    yield gateway
    gateway.set_faults()


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code", "anthropic_type"),
    [
        ("bad_request", 400, "invalid_request", "invalid_request_error"),
        ("context_length", 400, "context_length_exceeded", "invalid_request_error"),
        ("rate_limit", 429, "upstream_rate_limited", "rate_limit_error"),
        ("refuse", 503, "overloaded", "overloaded_error"),
        ("error_500", 502, "upstream_error", "api_error"),
        ("malformed", 502, "provider_malformed", "api_error"),
        ("empty", 502, "provider_malformed", "api_error"),
    ],
)
def test_a_provider_that_fails_is_the_same_error_on_every_wire(
    faultless: RunningGateway, fault: str, status: int, code: str, anthropic_type: str, is_streamed: bool
) -> None:
    faultless.set_faults({"fault": fault})

    for model in (GPT, CLAUDE):
        with faultless.openai() as client:
            with pytest.raises(openai.APIStatusError) as of_chat:
                client.chat.completions.create(model=model, messages=CHAT, stream=is_streamed)
            with pytest.raises(openai.APIStatusError) as of_response:
                client.responses.create(model=model, input=QUESTION, stream=is_streamed)
        for seen in (of_chat.value, of_response.value):
            assert (seen.status_code, seen.code) == (status, code)
        with faultless.anthropic() as client, pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.create(model=model, max_tokens=20, messages=MESSAGES, stream=is_streamed)
        body: Any = refused.value.body
        assert (refused.value.status_code, body["type"], body["error"]["type"]) == (status, "error", anthropic_type)
        assert body["error"]["code"] == code
        assert refused.value.request_id == body["request_id"]
        assert refused.value.response.headers["x-should-retry"] == ("true" if status >= 429 else "false")


def test_a_stream_that_breaks_off_is_an_exception_on_every_wire(faultless: RunningGateway) -> None:
    faultless.set_faults({"fault": "cut_stream"})

    for model in (GPT, CLAUDE):
        with faultless.openai() as client:
            with pytest.raises(openai.APIError) as broken:
                list(client.chat.completions.create(model=model, messages=CHAT, stream=True))
            events = list(client.responses.create(model=model, input=QUESTION, stream=True))
        with faultless.anthropic() as client, pytest.raises(anthropic.APIStatusError) as cut:
            list(client.messages.create(model=model, max_tokens=200, messages=MESSAGES, stream=True))
        body: Any = cut.value.body
        assert broken.value.code == "stream_interrupted"
        assert body["error"]["code"] == "stream_interrupted"
        assert (events[-1].type, events[-1].code) == ("error", "stream_interrupted")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"messages": [{"role": "user", "content": "x", "unheard_of": 1}]}, "messages.0"),
    ],
)
def test_what_the_anthropic_wire_cannot_say_is_refused_there_by_name_and_taken_on_its_own(
    gateway: RunningGateway, fields: dict[str, Any], param: str
) -> None:
    with gateway.http() as client:
        refused = client.post("/v1/chat/completions", json={"model": CLAUDE, "messages": CHAT, **fields})
        explained = client.post("/v1/route:explain", json={"model": GPT, "messages": CHAT, **fields})

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert [step["deployment"] for step in explained.json()["route"]] == [GPT]


IMAGE: dict[str, Any] = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": {"type": "adaptive"}}, "thinking"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
        ({"stop_sequences": list("abcde")}, "stop_sequences"),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x", "signature": "y"}]}]},
            "messages.0.content.0",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}]}
                ]
            },
            "messages.0.content.0.content",
        ),
    ],
)
def test_what_the_openai_wire_cannot_say_is_refused_there_by_name_and_taken_on_its_own(
    gateway: RunningGateway, fields: dict[str, Any], param: str
) -> None:
    body = {"max_tokens": 2000, "messages": MESSAGES, **fields}
    with gateway.http() as client:
        refused = client.post("/v1/messages", json={"model": GPT, **body})
        taken = client.post("/v1/messages", json={"model": CLAUDE, **body})

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert error["type"] == "invalid_request_error"
    assert taken.status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": []},
        {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
        {"inference_geo": "us"},
        {"speed": "fast"},
        {"base_url": "http://evil.test"},
    ],
)
def test_what_has_no_bound_or_no_price_is_refused_on_every_wire(
    gateway: RunningGateway, fields: dict[str, Any]
) -> None:
    billed = len(gateway.bill())
    with gateway.http() as client:
        refused = client.post("/v1/messages", json={"model": CLAUDE, "max_tokens": 9, "messages": MESSAGES, **fields})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert len(gateway.bill()) == billed


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_hint_that_the_other_wire_lacks_is_left_out_and_named(gateway: RunningGateway, is_streamed: bool) -> None:
    chat = {"messages": [{**MESSAGES[0], "name": "Dana"}], "seed": 4, "temperature": 0, "stream": is_streamed}
    message = {"messages": MESSAGES, "max_tokens": 20, "top_k": 5, "stream": is_streamed}
    with gateway.http() as client:
        dropped = [
            client.post(path, json={"model": model, **body}).headers.get("x-auterity-dropped-params")
            for path, body in (("/v1/chat/completions", chat), ("/v1/messages", message))
            for model in (GPT, CLAUDE)
        ]
        strict = client.post(
            "/v1/chat/completions",
            json={"model": CLAUDE, **chat},
            headers={"x-auterity-require-parameters": "true"},
        )

    assert dropped == [None, "seed,temperature,messages.name", "top_k", None]
    assert (strict.status_code, strict.json()["error"]["code"]) == (400, "unsupported_parameter")


def test_a_stranger_and_a_lost_route_are_errors_of_the_callers_wire(gateway: RunningGateway, kind: Kind) -> None:
    with anthropic.Anthropic(base_url=gateway.stack.gateway_url, api_key="auty_live_x", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError) as stranger:
            client.messages.create(model=kind.model, max_tokens=5, messages=MESSAGES)
        with pytest.raises(anthropic.AuthenticationError):
            client.models.list()
    with gateway.http() as client:
        lost, wrong = client.get("/v1/nowhere"), client.get("/v1/messages")

    body: Any = stranger.value.body
    assert body["error"]["type"] == "authentication_error"
    assert [lost.status_code, wrong.status_code] == [404, 405]
    assert lost.json()["error"]["code"] == "not_found"


def test_a_finished_request_can_be_read_by_its_organization_only(gateway: RunningGateway) -> None:
    with gateway.http() as client:
        answer = client.post("/v1/chat/completions", json={"model": "sandbox-small", "messages": CHAT})
        request_id = answer.headers["x-request-id"]
        written = gateway.until(lambda: client.get(f"/v1/requests/{request_id}")).json()
        unknown = client.get("/v1/requests/00000000-0000-4000-8000-000000000000")
    foreign_key = gateway.new_organization()
    with gateway.http(authorization=f"Bearer {foreign_key}") as stranger:
        foreign = stranger.get(f"/v1/requests/{request_id}")

    assert str(written["cost_nusd"]) == answer.headers["x-auterity-cost-nusd"]
    assert [one["cause"] for one in written["attempts"]] == ["ok"]
    assert "sandbox-small" in [one["deployment_id"] for one in written["decision"]["candidates"]]
    assert [unknown.status_code, foreign.status_code] == [404, 404]
    assert foreign.json()["error"]["code"] == "request_not_found"
