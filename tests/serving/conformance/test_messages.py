"""`/v1/messages` through Anthropic's SDK, answered by every kind of deployment."""

from typing import Any

import anthropic
import pytest

from tests.fakes.gateway_thread import RunningGateway
from tests.serving.conformance.checkers import check_message, check_message_events
from tests.serving.conformance.conftest import Kind
from tests.serving.conformance.prompts import (
    ANTHROPIC_TOOLS,
    ASKS_FOR_TOOLS,
    NAMES,
    PNG,
    QUESTION,
    SCHEMA,
    SYSTEM,
    Verdict,
)

ASKED: dict[str, Any] = {"system": SYSTEM, "messages": [{"role": "user", "content": QUESTION}]}
ASKED_FOR_TOOLS: dict[str, Any] = {
    "system": SYSTEM,
    "messages": [{"role": "user", "content": ASKS_FOR_TOOLS}],
    "tools": ANTHROPIC_TOOLS,
    "max_tokens": 300,
}


def test_an_answer_is_valid_and_says_what_it_used(anthropic_sdk: anthropic.Anthropic, kind: Kind) -> None:
    message = anthropic_sdk.messages.create(model=kind.model, max_tokens=40, **ASKED)

    check_message(message)
    assert message.content[0].type == "text"
    assert message._request_id


def test_a_stream_is_valid_and_says_the_same(anthropic_sdk: anthropic.Anthropic, kind: Kind) -> None:
    whole = anthropic_sdk.messages.create(model=kind.model, max_tokens=30, **ASKED)

    events = list(anthropic_sdk.messages.create(model=kind.model, max_tokens=30, stream=True, **ASKED))
    with anthropic_sdk.messages.stream(model=kind.model, max_tokens=30, **ASKED) as stream:
        final = stream.get_final_message()

    check_message_events(events)
    assert [block.text for block in final.content] == [block.text for block in whole.content]  # type: ignore[union-attr]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert events[-2].x_auterity["attempts"] == 1  # type: ignore[union-attr]


def test_an_answer_that_reaches_its_limit_says_so(anthropic_sdk: anthropic.Anthropic, kind: Kind) -> None:
    message = anthropic_sdk.messages.create(model=kind.model, max_tokens=3, **ASKED)

    check_message(message)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_a_stop_sequence_ends_the_answer_before_it(anthropic_sdk: anthropic.Anthropic, full_kind: Kind) -> None:
    message = anthropic_sdk.messages.create(model=full_kind.model, max_tokens=200, stop_sequences=["sandbox"], **ASKED)

    check_message(message)
    assert message.content[0].text == "This is the Auterity "  # type: ignore[union-attr]
    # Which sequence it was, the OpenAI wire does not tell.
    is_told = full_kind.wire == "anthropic"
    assert message.stop_reason == ("stop_sequence" if is_told else "end_turn")


def test_blocks_of_text_are_taken(anthropic_sdk: anthropic.Anthropic, kind: Kind) -> None:
    message = anthropic_sdk.messages.create(
        model=kind.model,
        max_tokens=20,
        system=[{"type": "text", "text": SYSTEM}, {"type": "text", "text": "Be short."}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Is it"}, {"type": "text", "text": " there?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
            {"role": "user", "content": "And the red one?"},
        ],
    )

    check_message(message)


@pytest.mark.parametrize("is_parallel", [True, False])
def test_tools_are_called_whole(anthropic_sdk: anthropic.Anthropic, full_kind: Kind, is_parallel: bool) -> None:
    message = anthropic_sdk.messages.create(
        model=full_kind.model,
        tool_choice={"type": "auto", "disable_parallel_tool_use": not is_parallel},
        **ASKED_FOR_TOOLS,
    )

    check_message(message)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [call.name for call in calls] == list(NAMES if is_parallel else NAMES[:1])
    assert calls[0].input == {"stock": "sandbox", "number": 2}


def test_tools_are_called_in_a_stream(anthropic_sdk: anthropic.Anthropic, full_kind: Kind) -> None:
    events = list(anthropic_sdk.messages.create(model=full_kind.model, stream=True, **ASKED_FOR_TOOLS))
    with anthropic_sdk.messages.stream(model=full_kind.model, **ASKED_FOR_TOOLS) as stream:
        final = stream.get_final_message()

    check_message_events(events)
    check_message(final)
    assert [block.name for block in final.content if block.type == "tool_use"] == list(NAMES)


def test_the_results_of_tools_are_understood(anthropic_sdk: anthropic.Anthropic, full_kind: Kind) -> None:
    asked = anthropic_sdk.messages.create(model=full_kind.model, **ASKED_FOR_TOOLS)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"result {number}"}
        for number, block in enumerate(block for block in asked.content if block.type == "tool_use")
    ]
    history = [*ASKED_FOR_TOOLS["messages"], asked.to_param(), {"role": "user", "content": results}]

    message = anthropic_sdk.messages.create(model=full_kind.model, **{**ASKED_FOR_TOOLS, "messages": history})

    check_message(message)
    assert message.content[0].text == "The tool answered: result 0 and result 1"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ({"type": "none"}, []),
        ({"type": "any"}, ["find_vehicle"]),
        ({"type": "tool", "name": "book_visit"}, ["book_visit"]),
    ],
)
def test_the_choice_of_tools_is_kept(
    anthropic_sdk: anthropic.Anthropic, full_kind: Kind, choice: Any, called: list[str]
) -> None:
    message = anthropic_sdk.messages.create(
        model=full_kind.model, max_tokens=200, tools=ANTHROPIC_TOOLS, tool_choice=choice, **ASKED
    )

    check_message(message)
    assert [block.name for block in message.content if block.type == "tool_use"] == called


def test_an_answer_keeps_to_a_schema(anthropic_sdk: anthropic.Anthropic, full_kind: Kind) -> None:
    message = anthropic_sdk.messages.create(
        model=full_kind.model,
        max_tokens=300,
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
        **ASKED,
    )

    check_message(message)
    assert Verdict.model_validate_json(message.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("is_url", [False, True])
def test_images_are_passed_on_and_paid_for(
    gateway: RunningGateway, anthropic_sdk: anthropic.Anthropic, full_kind: Kind, is_url: bool
) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    if is_url:
        source = {"type": "url", "url": "https://example.test/car.png"}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]

    raw = anthropic_sdk.messages.with_raw_response.create(
        model=full_kind.model, max_tokens=20, messages=[{"role": "user", "content": content}]
    )

    message = raw.parse()
    check_message(message)
    assert message.usage.input_tokens > 85
    assert raw.headers["x-auterity-cost-nusd"] == str(gateway.bill()[-1]["cost_nusd"])


def test_thinking_and_the_prompt_cache_pass_unchanged_and_are_paid_for(
    gateway: RunningGateway, anthropic_sdk: anthropic.Anthropic
) -> None:
    asked: dict[str, Any] = {
        "model": "claude-opus-5-5",
        "max_tokens": 2000,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [{"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            }
        ],
    }

    raw = anthropic_sdk.messages.with_raw_response.create(**asked)
    billed = gateway.bill()[-1]
    events = list(anthropic_sdk.messages.create(stream=True, **asked))

    message = raw.parse()
    check_message(message)
    check_message_events(events)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].signature  # type: ignore[union-attr]
    assert message.usage.cache_read_input_tokens == billed["cache_read_tokens"] > 0
    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == billed["cache_write_1h_tokens"] > 0
    assert raw.headers["x-auterity-cost-nusd"] == str(billed["cost_nusd"])
    assert events[-2].x_auterity["cost_nusd"] == billed["cost_nusd"]  # type: ignore[union-attr]


def test_tokens_are_counted_for_nothing(
    gateway: RunningGateway, anthropic_sdk: anthropic.Anthropic, kind: Kind
) -> None:
    billed = len(gateway.bill())

    raw = anthropic_sdk.messages.with_raw_response.count_tokens(model=kind.model, **ASKED)
    answer = anthropic_sdk.messages.create(model=kind.model, max_tokens=5, **ASKED)

    count = raw.parse().input_tokens
    assert len(gateway.bill()) == billed + kind.is_full
    if kind.wire == "anthropic":
        assert (raw.headers["x-auterity-token-count"], count) == ("provider", answer.usage.input_tokens)
    else:
        assert raw.headers["x-auterity-token-count"] == "estimate"
        assert count > 10


def test_models_are_listed_for_this_sdk_too(anthropic_sdk: anthropic.Anthropic, kind: Kind) -> None:
    names = [model.id for model in anthropic_sdk.models.list()]

    assert kind.model in names
    assert anthropic_sdk.models.retrieve(kind.model).id == kind.model
