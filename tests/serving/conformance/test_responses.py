"""`/v1/responses` through OpenAI's SDK, answered by every kind of deployment."""

from typing import Any

import openai
import pytest

from tests.serving.conformance.checkers import check_response_events, check_types
from tests.serving.conformance.conftest import Kind
from tests.serving.conformance.prompts import (
    ASKS_FOR_TOOLS,
    NAMES,
    PNG,
    QUESTION,
    RESPONSES_TOOLS,
    SYSTEM,
    Verdict,
)

ASKED: dict[str, Any] = {"instructions": SYSTEM, "input": QUESTION}


def test_an_answer_is_valid_and_says_what_it_used(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    response = openai_sdk.responses.create(model=kind.model, max_output_tokens=200, store=False, **ASKED)

    check_types(response)
    assert response.output_text
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_stream_is_valid_and_says_the_same(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    whole = openai_sdk.responses.create(model=kind.model, max_output_tokens=30, **ASKED)

    events = list(openai_sdk.responses.create(model=kind.model, max_output_tokens=30, stream=True, **ASKED))

    check_response_events(events)
    last = events[-1]
    assert last.response.output_text == whole.output_text  # type: ignore[union-attr]
    assert last.response.usage == whole.usage  # type: ignore[union-attr]
    assert last.x_auterity["attempts"] == 1  # type: ignore[union-attr]


def test_an_answer_that_reaches_its_limit_says_so(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    response = openai_sdk.responses.create(model=kind.model, max_output_tokens=3, **ASKED)
    events = list(openai_sdk.responses.create(model=kind.model, max_output_tokens=3, stream=True, **ASKED))

    check_response_events(events)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert events[-1].type == "response.incomplete"


def test_a_conversation_in_items_is_taken(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    first = openai_sdk.responses.create(model=kind.model, max_output_tokens=10, **ASKED)
    said: list[Any] = [item.to_dict() for item in first.output]

    response = openai_sdk.responses.create(
        model=kind.model,
        max_output_tokens=10,
        input=[
            {"role": "developer", "content": SYSTEM},
            {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
            *said,
            {"role": "user", "content": "And the red one?"},
        ],
    )

    check_types(response)
    assert response.output_text


@pytest.mark.parametrize("is_parallel", [True, False])
def test_tools_are_called_and_their_results_understood(
    openai_sdk: openai.OpenAI, full_kind: Kind, is_parallel: bool
) -> None:
    asked = openai_sdk.responses.create(
        model=full_kind.model, input=ASKS_FOR_TOOLS, tools=RESPONSES_TOOLS, parallel_tool_calls=is_parallel
    )
    calls = [item for item in asked.output if item.type == "function_call"]
    results: list[Any] = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"result {number}"}
        for number, call in enumerate(calls)
    ]
    history: list[Any] = [
        {"role": "user", "content": ASKS_FOR_TOOLS},
        *(item.to_dict() for item in asked.output),
        *results,
    ]

    answer = openai_sdk.responses.create(model=full_kind.model, input=history, tools=RESPONSES_TOOLS)

    check_types(asked)
    check_types(answer)
    assert [call.name for call in calls] == list(NAMES if is_parallel else NAMES[:1])
    assert answer.output_text.startswith("The tool answered: result 0")


def test_tools_are_called_in_a_stream(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    with openai_sdk.responses.stream(model=full_kind.model, input=ASKS_FOR_TOOLS, tools=RESPONSES_TOOLS) as stream:
        final = [event for event in stream if event.type == "response.completed"]
    events = list(
        openai_sdk.responses.create(model=full_kind.model, input=ASKS_FOR_TOOLS, tools=RESPONSES_TOOLS, stream=True)
    )

    check_response_events(events)
    calls = [item for item in final[0].response.output if item.type == "function_call"]
    assert [call.name for call in calls] == list(NAMES)


def test_the_choice_of_a_tool_is_kept(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    response = openai_sdk.responses.create(
        model=full_kind.model,
        input=QUESTION,
        tools=RESPONSES_TOOLS,
        tool_choice={"type": "function", "name": "book_visit"},
    )

    check_types(response)
    assert [item.name for item in response.output if item.type == "function_call"] == ["book_visit"]


def test_an_answer_keeps_to_a_schema(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    response = openai_sdk.responses.parse(model=full_kind.model, input=QUESTION, text_format=Verdict)

    assert isinstance(response.output_parsed, Verdict)


def test_images_are_passed_on(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    content: Any = [
        {"type": "input_text", "text": QUESTION},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
    ]

    response = openai_sdk.responses.create(model=full_kind.model, input=[{"role": "user", "content": content}])

    check_types(response)
    assert response.usage is not None
    assert response.usage.input_tokens > 85


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input.0.content.0"),
    ],
)
def test_what_is_outside_the_subset_is_refused_by_name(
    openai_sdk: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        openai_sdk.responses.create(**{"model": "sandbox-small", "input": QUESTION, **fields})

    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)
