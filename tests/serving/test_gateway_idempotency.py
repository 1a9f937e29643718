"""`Idempotency-Key` over HTTP: one call to the provider a key, the same bytes for whoever repeats it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import QUESTION, Stack, running_stack, until
from tests.fakes.ledger_requests import make_budget

KEY = {"idempotency-key": "step 7 of execution 12"}
STREAM = {"stream": True, "max_tokens": 40}


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path, token_latency_ms=5) as stack:
        yield stack


def code(answer: httpx.Response) -> str:
    return answer.json()["error"]["code"]


@pytest.mark.parametrize("body", [{}, STREAM], ids=["whole", "stream"])
async def test_a_repeated_call_gets_the_same_bytes_and_is_not_made_again(stack: Stack, body) -> None:
    first = await stack.ask(body, **KEY)
    second = await stack.ask(body, **KEY)

    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert len(await stack.bill()) == 1


async def test_a_key_with_another_body_or_route_is_refused(stack: Stack) -> None:
    await stack.ask(None, **KEY)

    other = await stack.ask({"max_tokens": 7}, **KEY)

    assert (other.status_code, code(other)) == (422, "idempotency_mismatch")
    assert len(await stack.bill()) == 1


async def test_of_calls_that_come_together_one_is_made_and_the_others_are_told_to_come_again(stack: Stack) -> None:
    answers = await asyncio.gather(*(stack.ask(None, **KEY) for _ in range(10)))
    running = [answer for answer in answers if answer.status_code == 409]

    again = await stack.ask(None, **KEY)

    assert len(await stack.bill()) == 1
    assert {answer.content for answer in answers if answer.status_code == 200} == {again.content}
    assert {code(answer) for answer in running} <= {"idempotency_running"}
    assert {answer.headers["x-should-retry"] for answer in running} <= {"true"}
    assert {answer.headers["retry-after"] for answer in running} <= {"1"}


async def test_an_error_that_says_come_again_frees_the_key(stack: Stack) -> None:
    await stack.set_faults({"fault": "refuse"})
    refused = await stack.ask(None, **KEY)
    await stack.set_faults()

    assert refused.status_code == 503
    assert (await stack.ask(None, **KEY)).status_code == 200


async def test_an_error_that_stays_is_kept(stack: Stack) -> None:
    await stack.set_faults({"fault": "bad_request"})
    refused = await stack.ask(None, **KEY)
    await stack.set_faults()

    again = await stack.ask(None, **KEY)

    assert (refused.status_code, again.status_code) == (400, 400)
    assert refused.content == again.content


async def test_a_refusal_for_money_is_judged_anew(stack: Stack, database_urls: DatabaseUrls) -> None:
    await make_budget(stack.database, stack.organization_id, cap_nusd=0)
    refused = await stack.ask(None, **KEY)
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("UPDATE budget SET cap_nusd = 10 ^ 9")
        connection.execute("UPDATE budget_window SET cap_nusd = 10 ^ 9")

    assert refused.status_code == 402
    assert (await stack.ask(None, **KEY)).status_code == 200


async def test_a_stream_that_broke_off_is_not_made_again(stack: Stack) -> None:
    await stack.set_faults({"fault": "cut_stream", "times": 1})
    broken = await stack.ask(STREAM, **KEY)
    await stack.closed_holds(1)

    again = await stack.ask(STREAM, **KEY)

    assert "stream_interrupted" in broken.text
    assert (again.status_code, code(again), again.headers["x-should-retry"]) == (409, "outcome_unknown", "false")
    assert len(await stack.bill()) == 1


async def test_a_caller_that_left_a_stream_finds_all_of_it_when_it_comes_back(stack: Stack) -> None:
    asked = {"model": "sandbox-small", "messages": QUESTION, **STREAM}
    async with stack.http(**KEY) as client, client.stream("POST", "/v1/chat/completions", json=asked) as stream:
        await anext(stream.aiter_lines())

    statuses: Counter[int] = Counter()

    async def is_kept() -> bool:
        statuses[(await stack.ask(STREAM, **KEY)).status_code] += 1
        return statuses[200] == 1

    await until(is_kept)
    assert set(statuses) <= {200, 409}
    assert (await stack.ask(STREAM, **KEY)).text.endswith("data: [DONE]\n\n")
    assert len(await stack.bill()) == 1


async def test_a_kept_answer_cannot_be_read_in_the_database(stack: Stack, database_urls: DatabaseUrls) -> None:
    answer = await stack.ask(None, **KEY)

    with psycopg.connect(database_urls.owner) as connection:
        [row] = connection.execute("SELECT * FROM idempotency").fetchall()
    stored = b" ".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
    assert answer.json()["choices"][0]["message"]["content"][:20].encode() not in stored
    assert KEY["idempotency-key"].encode() not in stored


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
async def test_a_key_that_is_none_is_refused(stack: Stack, key: str) -> None:
    async with stack.http() as client:
        answer = await client.post(
            "/v1/chat/completions",
            json={"model": "auto", "messages": QUESTION},
            headers=[("idempotency-key", key.encode("latin-1"))],  # type: ignore[arg-type]
        )

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "idempotency-key")
