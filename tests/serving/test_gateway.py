"""The gateway over real HTTP: SDKs, headers, refusals, and money that is exact."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import openai
import pytest

from auterity_dagster.relaycore.budget import Scope
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack
from tests.fakes.ledger_requests import make_budget


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path) as stack:
        yield stack


async def test_the_openai_sdk_gets_an_answer_and_the_headers_say_where_it_came_from(stack: Stack) -> None:
    async with stack.sdk(**{"x-auterity-task": "lead_reply"}) as client:
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=QUESTION)  # type: ignore[arg-type]

    answer = raw.parse()
    assert answer.choices[0].message.content
    [line] = await stack.bill()
    assert raw.headers["x-auterity-cost-nusd"] == str(line["cost_nusd"])
    assert raw.headers["x-auterity-rule"] == "dealership-tasks"
    assert raw.headers["x-auterity-deployment"] == "sandbox-large"
    assert raw.headers["x-auterity-degraded"] == "quality"
    assert raw.headers["x-auterity-attempts"] == "1"


async def test_a_budget_of_a_tag_binds_the_calls_that_carry_it(stack: Stack) -> None:
    await make_budget(stack.database, stack.organization_id, cap_nusd=0, scope=Scope.TAG, value="spring")

    refused = await stack.ask(None, **{"x-auterity-tags": "used-cars, spring"})
    admitted = await stack.ask(None, **{"x-auterity-tags": "used-cars"})
    wrong = await stack.ask(None, **{"x-auterity-tags": "two words"})

    assert (refused.status_code, refused.json()["error"]["details"]["value"]) == (402, "spring")
    assert admitted.status_code == 200
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-auterity-tags")


async def test_the_openai_sdk_gets_a_stream_whose_last_frame_says_what_it_cost(stack: Stack) -> None:
    async with stack.sdk() as client:
        stream = await client.chat.completions.create(model="sandbox-small", messages=QUESTION, stream=True)  # type: ignore[arg-type]
        chunks = [chunk async for chunk in stream]

    [line] = await stack.bill()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("This is the Auterity sandbox")
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].x_auterity["cost_nusd"] == line["cost_nusd"]  # type: ignore[attr-defined]
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_caller_that_asks_for_the_usage_of_a_stream_gets_it_in_a_frame_of_its_own(stack: Stack) -> None:
    async with stack.sdk() as client:
        stream = await client.chat.completions.create(
            model="sandbox-small",
            messages=QUESTION,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    [line] = await stack.bill()
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == line["completion_tokens"]
    assert chunks[-1].x_auterity["attempts"] == 1  # type: ignore[attr-defined]


async def test_the_ledger_holds_exactly_what_the_provider_billed(stack: Stack) -> None:
    for body in ({}, {"stream": True}, {"model": "sandbox-large", "max_tokens": 5}):
        await stack.ask(body)

    holds = await stack.closed_holds(3)
    assert {hold.state for hold in holds} == {"settled"}
    assert sum(hold.cost_nusd or 0 for hold in holds) == sum(line["cost_nusd"] for line in await stack.bill())


async def test_an_exhausted_budget_refuses_and_the_provider_is_not_called(stack: Stack) -> None:
    await make_budget(stack.database, stack.organization_id, cap_nusd=1000)

    refused = await stack.ask({"model": "sandbox-large"})

    assert refused.status_code == 402
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert refused.headers["x-should-retry"] == "false"
    assert await stack.bill() == []


async def test_a_budget_without_room_for_the_choice_takes_a_cheaper_deployment_of_the_route(stack: Stack) -> None:
    await make_budget(stack.database, stack.organization_id, cap_nusd=2_000_000)

    answer = await stack.ask({"model": "auto"}, **{"x-auterity-task": "lead_reply"})

    assert answer.headers["x-auterity-deployment"] == "sandbox-small"


async def test_the_callers_own_limit_refuses_before_anything_is_held(stack: Stack) -> None:
    refused = await stack.ask({}, **{"x-auterity-max-cost-usd": "0.0000001"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "max_cost_exceeded")
    assert await stack.bill() == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "gpt-99"}, 404, "model_not_found"),
        ({"base_url": "http://evil.test"}, 400, "unsupported_parameter"),
        ({"api_key": "sk-mine"}, 400, "unsupported_parameter"),
        ({"n": 3}, 400, "unsupported_parameter"),
        ({"service_tier": "priority"}, 400, "unsupported_parameter"),
        ({"messages": []}, 400, "invalid_request"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "invalid_request"),
        ({"max_tokens": -4}, 400, "invalid_request"),
        ({"max_tokens": True}, 400, "invalid_request"),
        ({"stream": "yes"}, 400, "invalid_request"),
        ({"tools": [{"type": "function"}]}, 400, "invalid_request"),
    ],
)
async def test_a_bad_request_is_refused_with_a_code_and_costs_nothing(
    stack: Stack, body: dict[str, object], status: int, code: str
) -> None:
    refused = await stack.ask(body)

    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert await stack.bill() == []


async def test_headers_are_checked_too(stack: Stack) -> None:
    bad = {
        "x-auterity-task": "Lead Reply!",
        "x-auterity-quality-min": "1.5",
        "x-auterity-timeout-s": "soon",
        "x-auterity-max-cost-usd": "NaN",
        "x-auterity-dealership": "north",
    }

    statuses = {name: (await stack.ask({}, **{name: value})).status_code for name, value in bad.items()}
    purpose = await stack.ask({}, **{"x-auterity-purpose": "judging"})
    foreign = await stack.ask({}, **{"x-auterity-dealership": str(uuid4())})

    assert set(statuses.values()) == {400}, statuses
    assert (purpose.status_code, foreign.status_code) == (403, 403)
    assert await stack.bill() == []


async def test_garbage_is_refused(stack: Stack) -> None:
    async with stack.http() as client:
        broken = await client.post("/v1/chat/completions", content=b'{"model": ')
        listed = await client.post("/v1/chat/completions", content=b"[1, 2]")
        huge = await client.post("/v1/chat/completions", content=b" " * (1024 * 1024 + 1))

    assert [one.status_code for one in (broken, listed, huge)] == [400, 400, 413]


async def test_a_stranger_gets_nothing(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.gateway_url}/v1", api_key="auty_live_x", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="auto", messages=QUESTION)  # type: ignore[arg-type]
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()

    assert await stack.bill() == []


async def test_models_are_listed_and_those_without_credentials_are_not(stack: Stack) -> None:
    async with stack.sdk() as client:
        names = [model.id async for model in client.models.list()]

    assert {"auto", "pool/automotive", "auto/best", "sandbox-large", "sandbox-small"} <= set(names)
    assert "gpt-6.2-sol" not in names


async def test_explain_says_what_removed_each_candidate_and_calls_nothing(stack: Stack) -> None:
    async with stack.http(**{"x-auterity-task": "lead_reply"}) as client:
        body = {"model": "auto", "messages": QUESTION}
        explained = (await client.post("/v1/route:explain", json=body)).json()

    removed = {one["deployment_id"]: one["removed_by"] for one in explained["candidates"]}
    assert [step["deployment"] for step in explained["route"]] == ["sandbox-large", "sandbox-small"]
    assert removed["gpt-6.2-sol"].startswith("credential: openai/default is not set (OPENAI_API_KEY")
    assert await stack.bill() == []


async def test_explain_tells_of_a_refusal_as_well(stack: Stack) -> None:
    async with stack.http() as client:
        body = {"model": "gpt-6-luna", "messages": QUESTION}
        explained = (await client.post("/v1/route:explain", json=body)).json()

    assert explained["refused"]["code"] == "no_candidate"
    assert "gpt-6-luna" in explained["refused"]["removed"]


async def test_the_health_probe_names_the_policy_in_force(stack: Stack) -> None:
    async with stack.http() as client:
        health = (await client.get("/healthz")).json()

    assert health["status"] == "ok"
    assert len(health["policy"]) == 16
