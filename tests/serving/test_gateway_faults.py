"""Failing providers: the next deployment answers, nothing is paid twice, and a broken stream has no end mark."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.checkers import ledger_covers_bill
from tests.chaos.ledger_samples import spend_and_suspense
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, running_stack

LEAD = {"x-auterity-task": "lead_reply"}
AUTO = {"model": "auto"}


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path) as stack:
        yield stack


FAULTS_BEFORE_CONTENT = [
    ("refuse", "voided"),
    ("rate_limit", "voided"),
    ("error_500", "unknown"),
    ("error_500_billed", "unknown"),
    ("malformed", "unknown"),
    ("empty", "settled"),
]


@pytest.mark.parametrize(
    ("fault", "state", "is_streamed"),
    [(*one, False) for one in (*FAULTS_BEFORE_CONTENT, ("reset", "unknown"))]
    + [(*one, True) for one in FAULTS_BEFORE_CONTENT],
)
async def test_another_deployment_answers_and_the_failed_attempts_hold_is_closed_by_what_is_known(
    stack: Stack, fault: str, state: str, is_streamed: bool
) -> None:
    await stack.set_faults({"fault": fault, "model": "sandbox-large"})

    answer = await stack.ask(AUTO | {"stream": is_streamed}, **LEAD)

    assert answer.status_code == 200, answer.text
    holds = await stack.closed_holds(2)
    failed = {hold.state for hold in holds if hold.deployment_id == "sandbox-large"}
    assert answer.headers["x-auterity-deployment"] == "sandbox-small"
    assert failed == {state}


async def test_a_stream_that_breaks_after_its_first_words_ends_with_an_error_and_no_end_mark(stack: Stack) -> None:
    await stack.set_faults({"fault": "cut_stream"})

    answer = await stack.ask({"stream": True})

    [hold] = await stack.closed_holds(1)
    assert "stream_interrupted" in answer.text
    assert "[DONE]" not in answer.text
    assert hold.state == "unknown"


async def test_a_credential_that_the_provider_turns_down_moves_on_and_is_said_at_last(stack: Stack) -> None:
    await stack.set_faults({"fault": "unauthorized"})

    refused = await stack.ask(AUTO, **LEAD)
    async with stack.http(**LEAD) as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        explained = (await client.post("/v1/route:explain", json=body)).json()

    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "credentials_exhausted")
    assert explained["refused"]["removed"]["sandbox-large"].startswith("credential: its provider turned it down")


async def test_a_request_that_the_provider_calls_invalid_goes_back_to_the_caller_and_nowhere_else(stack: Stack) -> None:
    await stack.set_faults({"fault": "bad_request"})

    refused = await stack.ask(AUTO, **LEAD)

    [hold] = await stack.closed_holds(1)
    assert (refused.status_code, hold.state) == (400, "voided")


async def test_a_silent_provider_costs_at_most_the_callers_deadline(stack: Stack) -> None:
    await stack.set_faults({"fault": "slow", "delay_s": 30})

    refused = await stack.ask({}, **{"x-auterity-timeout-s": "0.5"})

    [hold] = await stack.closed_holds(1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "upstream_timeout")
    assert hold.state == "unknown"


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("usage_absent", "unknown"),
        ("usage_negative", "unknown"),
        ("usage_zero", "settled"),
        ("usage_too_high", "settled"),
    ],
)
async def test_an_estimate_never_settles_a_hold(stack: Stack, fault: str, state: str, is_streamed: bool) -> None:
    await stack.set_faults({"fault": fault})

    answer = await stack.ask({"stream": is_streamed})

    [hold] = await stack.closed_holds(1)
    [line] = await stack.bill()
    assert answer.status_code == 200
    assert hold.state == state
    if state == "settled":
        assert hold.cost_nusd == line["cost_nusd"]
    else:
        assert hold.amount_nusd >= line["cost_nusd"]


async def test_a_caller_that_leaves_is_drained_for_and_paid_for(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path, token_latency_ms=20) as stack:
        async with stack.http() as client:
            body = {"model": "sandbox-large", "messages": [{"role": "user", "content": "hi"}], "stream": True}
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                async for _ in response.aiter_bytes():
                    break

        [hold] = await stack.closed_holds(1)
        [line] = await stack.bill()
        assert (hold.state, hold.cost_nusd) == ("settled", line["cost_nusd"])


async def test_mixed_traffic_with_faults_leaves_the_ledger_equal_to_the_bill_but_for_what_is_unknown(
    stack: Stack, database_urls: DatabaseUrls
) -> None:
    faults = ("error_500", "rate_limit", "cut_stream", "usage_absent", "malformed", "error_500_billed", "usage_zero")
    await stack.set_faults(*({"fault": one, "share": 0.15} for one in faults))

    for number in range(40):
        await stack.ask(AUTO | {"stream": number % 2 == 0, "max_tokens": 20 + number}, **LEAD)

    holds = await stack.closed_holds(40)
    bill = sum(line["cost_nusd"] for line in await stack.bill())
    settled = {hold.id: hold.cost_nusd or 0 for hold in holds if hold.state == "settled"}
    spend, suspense = await spend_and_suspense(database_urls.owner)
    assert {"settled", "voided", "unknown"} == {hold.state for hold in holds}
    assert ledger_covers_bill(bill_nusd=bill, spend_nusd=spend, suspense_nusd=suspense, is_settled=False).is_held
    assert spend == sum(settled.values())


async def test_what_is_settled_equals_the_bill_request_by_request(stack: Stack, database_urls: DatabaseUrls) -> None:
    await stack.set_faults({"fault": "error_500", "share": 0.3}, {"fault": "refuse", "share": 0.3})

    for number in range(20):
        await stack.ask(AUTO | {"stream": number % 2 == 0}, **LEAD)

    await stack.closed_holds(20)
    bill = sum(line["cost_nusd"] for line in await stack.bill())
    spend, _ = await spend_and_suspense(database_urls.owner)
    assert spend == bill
