"""Every fault of a provider, on both wires, streamed or not: a correct answer or a typed error, and exact money."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import psycopg
import pytest
from sqlalchemy import select

from auterity_dagster.serving.sandbox.faults import FAULTS
from auterity_dagster.storage.tables.ledger import HoldRow, UsageRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import NO_BREAKER, written_config
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack

Wire = Literal["openai", "anthropic"]
SILENT = {"blackhole", "slow", "trickle"}
LAST = ("not_found", "unauthorized")
"""They take a deployment or a credential out for a minute: nothing is asked of it afterwards."""

UNASKED = {"broken_schema"}
"""Faults of answers that these calls do not ask for."""

ORDER = [*(one for one in FAULTS if one not in LAST and one not in UNASKED), *LAST]
WITHIN_S = 30.0
"""No call hangs: the longest time-out of the policy is shorter."""

CODES = {
    "upstream_error",
    "upstream_timeout",
    "upstream_rate_limited",
    "overloaded",
    "provider_malformed",
    "credentials_exhausted",
    "invalid_request",
    "context_length_exceeded",
    "stream_interrupted",
    "no_candidate",
}


@dataclass(frozen=True)
class Ended:
    """How a call ended: with this text as a whole answer, or with this code."""

    text: str | None
    code: str | None


async def called(stack: Stack, wire: Wire, *, is_streamed: bool, is_silent: bool = False) -> tuple[Ended, str]:
    """Call the gateway; return how that ended, and which deployment answered."""
    headers = {"x-auterity-task": wire, "x-auterity-timeout-s": "1.5" if is_silent else "12"}
    body = {"model": "auto", "messages": QUESTION, "max_tokens": 64, "stream": is_streamed}
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[wire]
    async with stack.http(**headers) as client:
        answer = await client.post(path, json=body, timeout=WITHIN_S)
    return ended(wire, answer), answer.headers.get("x-auterity-deployment", "")


def ended(wire: Wire, answer: httpx.Response) -> Ended:
    """Read an answer as strictly as a client could. Fails on anything between a whole answer and an error."""
    if answer.status_code != 200:
        return Ended(None, answer.json()["error"]["code" if wire == "openai" else "auterity_code"])
    if answer.headers["content-type"] == "application/json":
        return Ended(whole_text(wire, answer.json()), None)
    events = [
        json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:") and "[DONE]" not in line
    ]
    errors = [event["error"] for event in events if "error" in event]
    is_ended = "data: [DONE]" in answer.text if wire == "openai" else events[-1]["type"] == "message_stop"
    assert is_ended != bool(errors), "a stream has an end mark or an error, and never both"
    if errors:
        return Ended(None, errors[-1]["code" if wire == "openai" else "auterity_code"])
    return Ended(streamed_text(wire, events), None)


def whole_text(wire: Wire, body: Mapping[str, Any]) -> str:
    return body["choices"][0]["message"]["content"] if wire == "openai" else body["content"][0]["text"]


def streamed_text(wire: Wire, events: Sequence[Mapping[str, Any]]) -> str:
    if wire == "openai":
        return "".join(one["choices"][0]["delta"].get("content") or "" for one in events if one["choices"])
    return "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta")


async def books(stack: Stack) -> tuple[dict[Any, HoldRow], dict[Any, str | None]]:
    """Every hold once none is open, and the provider's request id of each."""
    holds = {hold.id: hold for hold in await stack.closed_holds(1)}
    async with stack.database.begin(stack.organization_id) as session:
        usage = (await session.scalars(select(UsageRow))).all()
    return holds, {row.id: row.provider_request_id for row in usage}


async def money_is_exact(stack: Stack) -> list[str]:
    """What settled costs what the provider billed for it; what is unknown covers all else that it billed."""
    holds, provider_ids = await books(stack)
    bill = {line["id"]: line["cost_nusd"] for line in await stack.bill()}
    problems: list[str] = []
    for hold in holds.values():
        if hold.state == "settled" and bill.pop(provider_ids[hold.id], 0) != hold.cost_nusd:
            problems.append(f"{hold.deployment_id} settled {hold.cost_nusd}, which is not what was billed")
    unknown = sorted((hold.amount_nusd for hold in holds.values() if hold.state == "unknown"), reverse=True)
    for billed, held in zip(sorted(bill.values(), reverse=True), [*unknown, *[0] * len(bill)], strict=False):
        if billed > held:
            problems.append(f"{billed} nano-dollars were billed and are not in the ledger")
    return problems


@pytest.mark.parametrize("is_everywhere", [False, True], ids=["the first deployment", "every deployment"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", ["openai"])
async def test_every_fault_ends_in_a_correct_answer_or_a_typed_error_and_exact_money(
    database_urls: DatabaseUrls,
    redis_url: str,
    tmp_path: Path,
    wire: Wire,
    is_streamed: bool,
    is_everywhere: bool,
) -> None:
    changes = written_config(tmp_path, breaker=NO_BREAKER)
    async with running_stack(database_urls, redis_url, tmp_path, **changes) as stack:
        (right, _), outcomes, problems = await called(stack, wire, is_streamed=is_streamed), {}, []
        for fault in ORDER:
            model = {} if is_everywhere else {"model": "sandbox-large"}
            await stack.set_faults({"fault": fault, "delay_s": 0.05 if fault == "trickle" else 3} | model)

            outcomes[fault], deployment = await called(stack, wire, is_streamed=is_streamed, is_silent=fault in SILENT)

            problems += [f"{fault}: {one}" for one in await money_is_exact(stack)]
            is_right = outcomes[fault].code is None and outcomes[fault].text == right.text
            if fault == "usage_too_high":  # whoever is billed above the bound is frozen; here the rest is asked too
                thaw_keys(database_urls)
            if not is_right and outcomes[fault].code not in CODES:
                problems.append(f"{fault}: {outcomes[fault]} by {deployment}")

    assert problems == []
    assert_fallbacks(outcomes, is_streamed=is_streamed, is_everywhere=is_everywhere)


def thaw_keys(urls: DatabaseUrls) -> None:
    with psycopg.connect(urls.owner) as connection:
        connection.execute("UPDATE api_key SET frozen_by_request_id = NULL")


def assert_fallbacks(outcomes: Mapping[str, Ended], *, is_streamed: bool, is_everywhere: bool) -> None:
    """Where another deployment is well and nothing was said yet, it answers; where none is, the error says why."""
    refusals = {"rate_limit", "error_500", "bad_gateway", "refuse", "gateway_timeout", "overloaded", "not_found"}
    refusals |= {"request_timeout", "unauthorized", "error_500_billed", "malformed", "empty", "cut_at_start"}
    for fault in refusals:
        assert (outcomes[fault].code is None) != is_everywhere, f"{fault}: {outcomes[fault]}"
    for fault in ("cut_stream", "cut_at_end", "late_error_event") if is_streamed else ():
        assert outcomes[fault].code == "stream_interrupted", fault
    for fault in ("usage_absent", "usage_zero", "usage_negative", "usage_too_high", "usage_twice", "usage_falling"):
        assert outcomes[fault].code is None, fault
    assert outcomes["bad_request"].code == "invalid_request"
    if is_everywhere:
        assert outcomes["rate_limit"].code == "upstream_rate_limited"
        assert outcomes["malformed"].code == "provider_malformed"
        assert outcomes["overloaded"].code == "overloaded"
        assert outcomes["unauthorized"].code in ("credentials_exhausted", "no_candidate")
