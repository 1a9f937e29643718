"""A whole answer is the JSON that was asked for, on both wires, or the next one is, or its caller is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.chat import ProviderAnswer, WireName
from auterity_dagster.serving.relaycore.schema_checks import SchemaChecks
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import NO_BREAKER, written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack

SCHEMA = {
    "type": "object",
    "properties": {"urgency": {"type": "string", "enum": ["soon", "today"]}},
    "required": ["urgency"],
    "additionalProperties": False,
}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
WIRES = [(caller, provider) for caller in PATHS for provider in PATHS]


def asked_for(caller: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if caller == "anthropic":
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}


async def ask(stack: Stack, caller: str, provider: str, **changes: Any) -> httpx.Response:
    body = {"model": "auto", "messages": QUESTION, "max_tokens": 64, **asked_for(caller, SCHEMA), **changes}
    async with stack.http(**{"x-auterity-task": provider}) as client:
        return await client.post(PATHS[caller], json=body)


async def test_an_answer_that_breaks_its_schema_is_the_next_deployments_or_an_error(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    changes = written_config(tmp_path, breaker=NO_BREAKER)
    async with running_stack(database_urls, redis_url, tmp_path, **changes) as stack:
        for caller, provider in WIRES:
            await stack.set_faults({"fault": "broken_schema", "model": "sandbox-large"})
            answer = await ask(stack, caller, provider)
            assert (answer.status_code, answer.headers["x-auterity-deployment"]) == (200, f"{provider}-small")
            assert "urgency" in answer.text

            await stack.set_faults({"fault": "broken_schema"})
            refused = await ask(stack, caller, provider)
            assert (refused.status_code, refused.json()["error"]["code"]) == (502, "provider_malformed")

            streamed = await ask(stack, caller, provider, stream=True)
            assert (streamed.status_code, "error" in streamed.text) == (200, False)

        await stack.set_faults()
        cut = await ask(stack, "openai", "openai", max_tokens=1)
        assert cut.json()["choices"][0]["finish_reason"] == "length"
        holds = await stack.closed_holds(1)
        unusable = await ask(stack, "openai", "openai", **asked_for("openai", {"type": "nonsense"}))
        assert (unusable.status_code, unusable.json()["error"]["param"]) == (400, "response_format")
    assert {hold.state for hold in holds} == {"settled"}


def said(text: str, **changes: Any) -> ProviderAnswer:
    choice = {"message": {"content": text}, "finish_reason": "stop"} | changes
    return ProviderAnswer(json.dumps({"choices": [choice]}).encode(), None, True, None)


@pytest.mark.parametrize(
    ("answer", "is_broken"),
    [
        (said('{"urgency": "soon"}'), False),
        (said('{"urgency": "never"}'), True),
        (said('{"urgency": "soon", "more": 1}'), True),
        (said("[]"), True),
        (said("It is urgent."), True),
        (said('{"urgency": "so', finish_reason="length"), False),
        (said("", message={"content": None, "refusal": "No."}), False),
        (said("", message={"content": None, "tool_calls": [{"id": "c"}]}), False),
    ],
    ids=["right", "no such value", "too much", "a list", "words", "cut short", "a refusal", "a call"],
)
def test_what_a_schema_allows_is_an_answer(answer: ProviderAnswer, is_broken: bool) -> None:
    assert SchemaChecks().is_broken(asked_for("openai", SCHEMA), "openai", answer) == is_broken


def test_any_object_will_do_where_no_schema_is_given() -> None:
    body = {"response_format": {"type": "json_object"}}

    assert not SchemaChecks().is_broken(body, "openai", said('{"a": 1}'))
    assert SchemaChecks().is_broken(body, "openai", said("[1]"))
    assert not SchemaChecks().is_broken({}, "openai", said("It is urgent."))


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "http://127.0.0.1:9/schema"}, {"$ref": "file:///etc/passwd"}, {"type": "nonsense"}, {"pattern": "("}],
    ids=["a web address", "a file", "an unknown type", "a broken pattern"],
)
def test_a_schema_that_is_none_or_lies_elsewhere_is_refused_by_its_field(schema: dict[str, Any]) -> None:
    fields: dict[WireName, str] = {"openai": "response_format", "anthropic": "output_config.format"}
    for wire, field in fields.items():
        with pytest.raises(Invalid) as refused:
            SchemaChecks().require_usable(asked_for(wire, schema), wire)
        assert refused.value.details["field"] == field


def test_a_pattern_that_would_be_tried_for_ever_is_given_up() -> None:
    schema = {"type": "object", "properties": {"a": {"pattern": "^(?=(a+)+$)(a+)+$"}}}

    assert SchemaChecks().is_broken(asked_for("openai", schema), "openai", said('{"a": "%s!"}' % ("a" * 60)))
