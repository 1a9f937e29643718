"""`/v1/chat/completions` through OpenAI's SDK, answered by every kind of deployment."""

import json

import openai
import pytest

from tests.fakes.gateway_thread import RunningGateway
from tests.serving.conformance.checkers import check_chunks, check_completion
from tests.serving.conformance.conftest import Kind
from tests.serving.conformance.prompts import (
    CHAT,
    CHAT_FOR_TOOLS,
    NAMES,
    OPENAI_TOOLS,
    PNG,
    QUESTION,
    SYSTEM,
    Verdict,
)


def test_an_answer_is_valid_and_says_what_it_used(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    answer = openai_sdk.chat.completions.create(model=kind.model, messages=CHAT, max_tokens=40)

    check_completion(answer)
    assert answer.choices[0].message.content


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream_is_valid_and_says_the_same(openai_sdk: openai.OpenAI, kind: Kind, with_usage: bool) -> None:
    whole = openai_sdk.chat.completions.create(model=kind.model, messages=CHAT, max_tokens=30)
    options = {"stream_options": {"include_usage": True}} if with_usage else {}

    stream = openai_sdk.chat.completions.create(
        model=kind.model,
        messages=CHAT,
        max_tokens=30,
        stream=True,
        **options,  # type: ignore[arg-type]
    )
    chunks = list(stream)

    check_chunks(chunks, with_usage=with_usage)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    if with_usage:
        assert chunks[-1].usage == whole.usage


def test_an_answer_that_reaches_its_limit_says_so(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    answer = openai_sdk.chat.completions.create(model=kind.model, messages=CHAT, max_completion_tokens=3)

    check_completion(answer)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_stop_sequence_ends_the_answer_before_it(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    answer = openai_sdk.chat.completions.create(model=full_kind.model, messages=CHAT, stop=["sandbox"])

    check_completion(answer)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == "This is the Auterity "


def test_developer_messages_and_lists_of_parts_are_taken(openai_sdk: openai.OpenAI, kind: Kind) -> None:
    messages: list[object] = [
        {"role": "developer", "content": SYSTEM},
        {"role": "user", "content": [{"type": "text", "text": "Is the blue one "}, {"type": "text", "text": "there?"}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And the red one?"},
    ]

    answer = openai_sdk.chat.completions.create(model=kind.model, messages=messages, max_tokens=20)  # type: ignore[arg-type]

    check_completion(answer)


@pytest.mark.parametrize("is_parallel", [True, False])
def test_tools_are_called_whole(openai_sdk: openai.OpenAI, full_kind: Kind, is_parallel: bool) -> None:
    answer = openai_sdk.chat.completions.create(
        model=full_kind.model, messages=CHAT_FOR_TOOLS, tools=OPENAI_TOOLS, parallel_tool_calls=is_parallel
    )

    check_completion(answer)
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == list(NAMES if is_parallel else NAMES[:1])  # type: ignore[union-attr]
    assert json.loads(calls[0].function.arguments)["number"] == 2  # type: ignore[union-attr]


def test_tools_are_called_in_a_stream(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    with openai_sdk.chat.completions.stream(
        model=full_kind.model, messages=CHAT_FOR_TOOLS, tools=OPENAI_TOOLS
    ) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        final = stream.get_final_completion()

    check_chunks(chunks, with_usage=False)
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == list(NAMES)
    assert all(json.loads(call.function.arguments)["number"] == 2 for call in calls)


def test_the_results_of_tools_are_understood(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    asked = openai_sdk.chat.completions.create(model=full_kind.model, messages=CHAT_FOR_TOOLS, tools=OPENAI_TOOLS)
    said = asked.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"result {number}"}
        for number, call in enumerate(said.tool_calls or [])
    ]

    answer = openai_sdk.chat.completions.create(
        model=full_kind.model,
        messages=[*CHAT_FOR_TOOLS, said.to_dict(), *results],  # type: ignore[list-item]
        tools=OPENAI_TOOLS,
    )

    check_completion(answer)
    assert answer.choices[0].message.content == "The tool answered: result 0 and result 1"


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        ("required", ["find_vehicle"]),
        ({"type": "function", "function": {"name": "book_visit"}}, ["book_visit"]),
    ],
)
def test_the_choice_of_tools_is_kept(
    openai_sdk: openai.OpenAI, full_kind: Kind, choice: object, called: list[str]
) -> None:
    answer = openai_sdk.chat.completions.create(
        model=full_kind.model,
        messages=CHAT,
        tools=OPENAI_TOOLS,
        tool_choice=choice,  # type: ignore[arg-type]
    )

    check_completion(answer)
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == called  # type: ignore[union-attr]


def test_an_answer_keeps_to_a_schema(openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    answer = openai_sdk.chat.completions.parse(model=full_kind.model, messages=CHAT, response_format=Verdict)

    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_images_are_passed_on_and_paid_for(gateway: RunningGateway, openai_sdk: openai.OpenAI, full_kind: Kind) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    messages: list[object] = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, image]}]

    plain = openai_sdk.chat.completions.create(model=full_kind.model, messages=[{"role": "user", "content": QUESTION}])
    raw = openai_sdk.chat.completions.with_raw_response.create(model=full_kind.model, messages=messages)  # type: ignore[arg-type]

    answer = raw.parse()
    check_completion(answer)
    assert answer.usage is not None
    assert plain.usage is not None
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens + 80
    assert raw.headers["x-auterity-cost-nusd"] == str(gateway.bill()[-1]["cost_nusd"])


def test_cached_and_reasoning_tokens_are_told_and_paid_for(gateway: RunningGateway, openai_sdk: openai.OpenAI) -> None:
    raw = openai_sdk.chat.completions.with_raw_response.create(
        model="gpt-6.2-sol", messages=CHAT, prompt_cache_key="dealership", reasoning_effort="low"
    )

    usage, line = raw.parse().usage, gateway.bill()[-1]
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == line["cache_read_tokens"] > 0
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens
    assert raw.headers["x-auterity-cost-nusd"] == str(line["cost_nusd"])


def test_what_a_served_model_cannot_do_is_refused_by_name(openai_sdk: openai.OpenAI) -> None:
    served = Kind("served", "neuroweaver/conformance", "openai")

    with pytest.raises(openai.BadRequestError) as refused:
        openai_sdk.chat.completions.create(model=served.model, messages=CHAT, tools=OPENAI_TOOLS)

    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools")
