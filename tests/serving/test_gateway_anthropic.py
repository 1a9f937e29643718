"""A deployment on the Anthropic wire answers callers of the OpenAI wire, whole and streamed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.serving.translation.to_anthropic import messages_request
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, ROOT, Stack, running_stack

MODEL = "claude-haiku-5-5"


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """Anthropic's address and key are the sandbox's; the deployment asks it for one of its own models."""
    config = tmp_path / "config"
    config.mkdir()
    text = (ROOT / "config" / "steering.yaml").read_text()
    written = f"provider: anthropic, model: {MODEL}, price: anthropic/{MODEL}"
    assert written in text
    changed = text.replace(written, "provider: anthropic, model: sandbox-small, price: sandbox/small")
    (config / "steering.yaml").write_text(changed)
    (config / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    secret = tmp_path / "secrets" / "anthropic_default"
    ensure_secrets(secret.parent)
    secret.write_text((secret.parent / "sandbox_token").read_text())
    secret.chmod(0o600)
    changes: dict[str, Any] = {"config_dir": config, "anthropic_base_url": lambda sandbox_url: sandbox_url}
    async with running_stack(database_urls, redis_url, tmp_path, **changes) as stack:
        yield stack


async def test_an_answer_is_translated_and_paid_for_to_the_nano_dollar(stack: Stack) -> None:
    async with stack.sdk() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "system", "content": "Be short."}, *QUESTION],  # type: ignore[list-item]
            temperature=0.1,
        )

    answer = raw.parse()
    [line] = await stack.bill()
    [hold] = await stack.closed_holds(1)
    assert (answer.choices[0].message.content or "").startswith("This is the Auterity sandbox")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == line["completion_tokens"]
    assert line["wire"] == "anthropic"
    assert raw.headers["x-auterity-dropped-params"] == "temperature"
    assert (hold.state, hold.cost_nusd) == ("settled", line["cost_nusd"])


async def test_a_stream_is_translated_event_by_event(stack: Stack) -> None:
    async with stack.sdk() as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,  # type: ignore[arg-type]
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    [line] = await stack.bill()
    [hold] = await stack.closed_holds(1)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("This is the")
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert (hold.state, hold.cost_nusd) == ("settled", line["cost_nusd"])


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "state"),
    [
        ("refuse", 503, "voided"),
        ("rate_limit", 429, "voided"),
        ("error_500", 502, "unknown"),
        ("unauthorized", 502, "voided"),
        ("bad_request", 400, "voided"),
        ("malformed", 502, "unknown"),
        ("empty", 502, "settled"),
    ],
)
async def test_failures_of_the_sdk_become_our_own(
    stack: Stack, fault: str, status: int, state: str, is_streamed: bool
) -> None:
    await stack.set_faults({"fault": fault})

    refused = await stack.ask({"model": MODEL, "stream": is_streamed})

    holds = await stack.closed_holds(1)
    assert refused.status_code == status
    assert {hold.state for hold in holds} == {state}


async def test_a_stream_cut_off_is_said_to_be_and_left_unknown(stack: Stack) -> None:
    await stack.set_faults({"fault": "cut_stream"})

    answer = await stack.ask({"model": MODEL, "stream": True})

    [hold] = await stack.closed_holds(1)
    assert "stream_interrupted" in answer.text
    assert "[DONE]" not in answer.text
    assert hold.state == "unknown"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_absent_usage_report_is_unknown_and_never_estimated(stack: Stack, is_streamed: bool) -> None:
    await stack.set_faults({"fault": "usage_absent"})

    await stack.ask({"model": MODEL, "stream": is_streamed})

    [hold] = await stack.closed_holds(1)
    assert hold.state == "unknown"


def test_tools_and_their_results_are_translated() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"stock": "H1"}'}}
    body = {
        "messages": [
            {"role": "system", "content": "Be exact."},
            {"role": "user", "content": "Is H1 there?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "yes"},
            {"role": "user", "content": "And the price?"},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
        "tool_choice": "required",
        "stop": "END",
        "seed": 7,
    }

    request = messages_request(body)

    assert request["system"] == "Be exact."
    assert [one["role"] for one in request["messages"]] == ["user", "assistant", "user"]
    assert request["messages"][1]["content"][0]["input"] == {"stock": "H1"}
    assert [block["type"] for block in request["messages"][2]["content"]] == ["tool_result", "text"]
    assert request["tools"] == [{"name": "find", "input_schema": {"type": "object"}}]
    assert (request["tool_choice"], request["stop_sequences"]) == ({"type": "any"}, ["END"])
