"""Streams paid for slice by slice: they go on while there is room, end where there is none, and cost no more."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import orjson
import pytest

from tests.chaos.ledger_samples import spend_and_suspense
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, running_stack
from tests.fakes.ledger_requests import make_budget
from tests.fakes.long_answers import (
    BODY,
    ECHO,
    OUTPUT_NUSD,
    QUESTION,
    WHOLE_TOKENS,
    amounts,
    billed,
    sliced_config,
    streamed,
)


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncGenerator[Stack]:
    async with running_stack(
        database_urls, redis_url, tmp_path, token_latency_ms=1, config_dir=sliced_config(tmp_path)
    ) as running:
        yield running


async def test_a_stream_goes_on_from_slice_to_slice_where_its_whole_hold_would_not_fit(
    stack: Stack, database_urls: DatabaseUrls
) -> None:
    cap_nusd = WHOLE_TOKENS * OUTPUT_NUSD  # less than prompt and answer at their most
    await make_budget(stack.database, stack.organization_id, cap_nusd=cap_nusd)

    status, text, told = await streamed(stack)
    whole = await stack.ask({**BODY, "stream": False})
    (hold, *_) = await stack.closed_holds(1)

    assert (status, told["finish"], "budget_stop" in told) == (200, "stop", False)
    assert text.endswith(ECHO)
    assert (whole.status_code, whole.json()["error"]["code"]) == (402, "budget_exceeded")
    [line] = await stack.bill()
    assert line["completion_tokens"] > 1_024
    assert (hold.state, hold.cost_nusd) == ("settled", line["cost_nusd"])
    assert line["cost_nusd"] <= hold.amount_nusd < cap_nusd
    assert await spend_and_suspense(database_urls.owner) == (line["cost_nusd"], 0)


async def test_a_stream_without_room_for_its_next_slice_ends_as_at_its_limit(
    stack: Stack, database_urls: DatabaseUrls
) -> None:
    prompt_nusd = (await streamed(stack, BODY | {"max_tokens": 300}), (await amounts(stack))[0] - 300 * OUTPUT_NUSD)[1]
    first_nusd = await billed(stack)
    await make_budget(stack.database, stack.organization_id, cap_nusd=prompt_nusd + 700 * OUTPUT_NUSD)

    _, text, told = await streamed(stack)
    await stack.closed_holds(2)

    assert (told["finish"], told["budget_stop"]) == ("length", True)
    assert ECHO not in text
    lines = await stack.bill()
    assert lines[1]["completion_tokens"] == 512
    assert told["cost_nusd"] == lines[1]["cost_nusd"]
    assert await spend_and_suspense(database_urls.owner) == (first_nusd + lines[1]["cost_nusd"], 0)


async def test_callers_of_the_other_wire_read_it_as_theirs(stack: Stack) -> None:
    body = {
        "model": "sandbox-small",
        "max_tokens": WHOLE_TOKENS,
        "stream": True,
        "messages": [
            QUESTION,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "say", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": ECHO}]},
        ],
    }
    async with stack.http() as client:
        await client.post("/v1/messages", json=body | {"max_tokens": 300})
        prompt_nusd = (await amounts(stack))[0] - 300 * OUTPUT_NUSD
        await make_budget(stack.database, stack.organization_id, cap_nusd=prompt_nusd + 300 * OUTPUT_NUSD)
        answer = await client.post("/v1/messages", json=body)

    events = [orjson.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: {")]
    (delta,) = [event for event in events if event["type"] == "message_delta"]
    assert (delta["delta"]["stop_reason"], delta["x_auterity"]["budget_stop"]) == ("max_tokens", True)
    assert delta["usage"]["output_tokens"] == 256
    assert events[-1]["type"] == "message_stop"


async def test_a_caller_that_leaves_costs_at_most_what_is_held(stack: Stack, database_urls: DatabaseUrls) -> None:
    async with stack.http() as client, client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        async for _ in answer.aiter_lines():
            break
    (hold,) = await stack.closed_holds(1)

    assert hold.state in ("settled", "unknown")
    assert await billed(stack) <= hold.amount_nusd
    assert hold.cost_nusd is not None


async def test_a_provider_ends_at_the_limit_that_it_was_told(stack: Stack) -> None:
    headers = {"authorization": f"Bearer {stack.sandbox_token}", "x-auterity-stream": "one"}
    body = {**BODY, "max_tokens": 40, "stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(base_url=stack.sandbox_url, headers=headers, timeout=30) as client:

        async def told(max_tokens: int, *, is_last: bool) -> int:
            answer = await client.post("/v1/limits/one", json={"max_tokens": max_tokens, "is_last": is_last})
            return answer.status_code

        asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        while (status := await told(30, is_last=False)) == 404:  # noqa: ASYNC110 - the sandbox makes it true
            await asyncio.sleep(0.01)
        raised, last = await told(60, is_last=False), await told(60, is_last=True)
        answer = await asking
        over = await told(70, is_last=True)

    assert (status, raised, last, over) == (204, 204, 204, 404)
    assert '"finish_reason":"length"' in answer.text
    assert '"completion_tokens":60' in answer.text
    assert [line["completion_tokens"] for line in await stack.bill()] == [60]
