"""The cache of answers, through the real gateway: exact, for nothing, sealed, and never for what is about a person."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from auterity_dagster.relaycore.answer_cache import AnswerCache
from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.storage import redis_answers
from auterity_dagster.storage.tables.ledger import HoldRow, UsageRow
from auterity_dagster.storage.tables.routing import RequestRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_config import changed_config
from tests.fakes.gateway_stack import Stack, gateway_settings, running_stack, until
from tests.fakes.served import served

NOBODY = "redis://127.0.0.1:9"
QUIET = {"temperature": 0}
"""What makes an answer one to keep."""

PERSONAL: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]] = {
    "a subject": ({}, {"x-auterity-subject": "customer-77"}),
    "a restricted data class": ({}, {"x-auterity-data-class": "restricted"}),
    "a restricted label": ({"metadata": {"data_class": "restricted"}}, {}),
    "an end user": ({"user": "customer-77"}, {}),
    "an e-mail address": ({"messages": [{"role": "user", "content": "Write to jo.doe@example.test"}]}, {}),
    "a telephone": ({"messages": [{"role": "user", "content": "Call (312) 555-0148 back"}]}, {}),
    "a social security number": ({"messages": [{"role": "user", "content": "My SSN is 078-05-1120."}]}, {}),
    "a vehicle's number": ({"messages": [{"role": "user", "content": "VIN 1HGCM82633A004352, please"}]}, {}),
}


def with_cache(policy: dict[str, Any]) -> None:
    for rule in policy["rules"]:
        if "principal.purpose" not in str(rule["when"]):
            rule["then"]["cache"] = {"mode": "exact", "scope": "organization", "ttl_s": 60}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other work is no Redis that is away."""
    monkeypatch.setattr(redis_answers, "ANSWER_WITHIN_S", 5.0)


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    return changed_config(tmp_path, with_cache)


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, config_dir: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path, config_dir=config_dir) as stack:
        yield stack


async def asked_twice(stack: Stack, body: Mapping[str, Any], **headers: str) -> list[str]:
    """Return what two equal calls are told of the cache; what the first one keeps is there for the second."""
    answers = [await stack.ask({**QUIET, **body}, **headers) for _ in range(2)]
    assert {one.status_code for one in answers} == {200}, answers[0].text
    return [one.headers["x-auterity-cache"] for one in answers]


async def kept_in(redis_url: str, organization_id: object) -> Sequence[bytes]:
    async with Redis.from_url(redis_url) as redis:
        names = [name async for name in redis.scan_iter(f"auterity:answer:{organization_id}:*")]
        values = [await redis.get(name) for name in names]
    return [value for value in values if isinstance(value, bytes) and value]


async def usage_of(stack: Stack, count: int) -> Sequence[UsageRow]:
    found: Sequence[UsageRow] = []

    async def are_written() -> bool:
        nonlocal found
        async with stack.database.begin(stack.organization_id) as session:
            found = (await session.scalars(select(UsageRow).order_by(UsageRow.happened_at))).all()
        return len(found) >= count

    await until(are_written)
    return found


async def test_an_equal_call_is_answered_for_nothing_and_no_provider_is_asked(stack: Stack, redis_url: str) -> None:
    body = {**QUIET, "messages": [{"role": "user", "content": "Which tyres fit a CR-V?"}]}
    first = await stack.ask(body, **{"x-auterity-task": "stock_question"})
    again = await stack.ask(body, **{"x-auterity-task": "stock_question"})
    anew = await stack.ask(body, **{"x-auterity-task": "stock_question", "x-auterity-cache": "refresh"})
    aside = await stack.ask(body, **{"x-auterity-task": "stock_question", "x-auterity-cache": "off"})
    wrong = await stack.ask(body, **{"x-auterity-cache": "always"})

    told = [one.headers["x-auterity-cache"] for one in (first, again, anew, aside)]
    assert told == ["miss", "hit", "miss", "bypass"]
    assert again.content == first.content
    assert (again.headers["x-auterity-cost-nusd"], again.headers["x-auterity-attempts"]) == ("0", "0")
    assert again.headers["x-auterity-saved-nusd"] == first.headers["x-auterity-cost-nusd"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-auterity-cache")

    bill = await stack.bill()
    assert len(bill) == 3, "the hit called nobody; the control is that the three others did"
    usage = await usage_of(stack, 4)
    costs = sorted((row.outcome, row.cost_nusd) for row in usage)
    assert costs == sorted([("cache_hit", 0), *(("ok", line["cost_nusd"]) for line in bill)])
    async with stack.database.begin(stack.organization_id) as session:
        holds = (await session.scalars(select(HoldRow))).all()
        [hit] = await session.scalars(select(RequestRow).where(RequestRow.attempts == []))
    assert len(holds) == 3
    assert (hit.outcome, hit.cost_nusd, str(hit.id)) == ("ok", 0, again.headers["x-request-id"])
    sealed = await kept_in(redis_url, stack.organization_id)
    assert len(sealed) == 1
    assert b"CR-V" not in sealed[0]
    assert first.json()["choices"][0]["message"]["content"].encode() not in sealed[0]


async def test_streams_of_both_wires_are_given_again_with_the_same_words(stack: Stack) -> None:
    async with stack.sdk() as client:
        streams = [
            await client.chat.completions.create(
                model="sandbox-small", messages=[{"role": "user", "content": "Say it"}], temperature=0, stream=True
            )
            for _ in range(1)
        ]
        said = ["".join([chunk.choices[0].delta.content or "" async for chunk in one]) for one in streams]
        raw = await client.chat.completions.with_raw_response.create(
            model="sandbox-small", messages=[{"role": "user", "content": "Say it"}], temperature=0, stream=True
        )
        chunks = [chunk async for chunk in raw.parse()]
    assert raw.headers["x-auterity-cache"] == "hit"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said[0]
    assert chunks[-1].x_auterity["cost_nusd"] == 0  # type: ignore[attr-defined]

    message = {
        "model": "sandbox-small", "max_tokens": 50, "temperature": 0, "messages": [{"role": "user", "content": "And"}],
    }  # fmt: skip
    async with stack.http() as client:
        whole = [await client.post("/v1/messages", json=message) for _ in range(2)]
        events = [await client.post("/v1/messages", json={**message, "stream": True}) for _ in range(2)]
    assert [one.headers["x-auterity-cache"] for one in (*whole, *events)] == ["miss", "hit", "miss", "hit"]
    assert whole[0].content == whole[1].content
    deltas = [[line for line in one.text.splitlines() if "text_delta" in line] for one in events]
    assert deltas[0] == deltas[1] != []
    assert len(await stack.bill()) == 3


async def test_equal_calls_at_the_same_time_are_one_call_over_all_processes(
    stack: Stack, database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, config_dir: Path
) -> None:
    settings = gateway_settings(
        database_urls, redis_url, tmp_path / "secrets", stack.sandbox_url, config_dir=config_dir
    )
    async with served(build_app(settings)) as other_url:
        other = Stack(
            other_url, stack.sandbox_url, stack.sandbox_token, stack.organization_id, stack.key, stack.database
        )

        answers = await asyncio.gather(*(one.ask(QUIET) for one in (stack, other) for _ in range(6)))

        assert {one.status_code for one in answers} == {200}
        assert len({one.content for one in answers}) == 1
        assert sorted(one.headers["x-auterity-cache"] for one in answers) == ["hit"] * 11 + ["miss"]
        assert len(await stack.bill()) == 1


async def test_what_decides_over_the_answer_decides_over_the_place(stack: Stack) -> None:
    await stack.ask(QUIET)
    others: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]] = {
        "another model": ({"model": "sandbox-large"}, {}),
        "another limit": ({"max_tokens": 7}, {}),
        "another seed": ({"seed": 5}, {}),
        "another task": ({}, {"x-auterity-task": "chat"}),
        "a higher demand": ({}, {"x-auterity-quality-min": "0.01"}),
        "fields that must not be dropped": ({}, {"x-auterity-require-parameters": "true"}),
        "a stream": ({"stream": True}, {}),
    }
    told = {name: (await stack.ask({**QUIET, **body}, **headers)) for name, (body, headers) in others.items()}
    assert {name: one.headers["x-auterity-cache"] for name, one in told.items()} == dict.fromkeys(others, "miss")
    assert (await stack.ask(QUIET)).headers["x-auterity-cache"] == "hit"
    bypassing: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]] = {
        "warm": ({"temperature": 0.31}, {}),
        "the default temperature": ({"temperature": None}, {}),
        "tools": ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}, {}),
        "a key of its own": ({}, {"idempotency-key": uuid4().hex}),
    }
    told = {name: (await stack.ask({**QUIET, **body}, **headers)) for name, (body, headers) in bypassing.items()}
    assert {name: one.headers["x-auterity-cache"] for name, one in told.items()} == dict.fromkeys(bypassing, "bypass")


async def personal_answers_kept(stack: Stack, redis_url: str) -> list[str]:
    """Return which personal calls were answered from the cache or left something in it."""
    found: list[str] = []
    for name, (body, headers) in PERSONAL.items():
        told = await asked_twice(stack, body, **headers)
        if told != ["bypass", "bypass"] or await kept_in(redis_url, stack.organization_id):
            found.append(name)
    return found


async def test_what_is_about_a_person_is_never_kept(stack: Stack, redis_url: str) -> None:
    assert await personal_answers_kept(stack, redis_url) == []
    assert len(await stack.bill()) == 2 * len(PERSONAL)
    assert await asked_twice(stack, {}) == ["miss", "hit"]


async def test_a_cache_that_does_not_look_for_persons_is_caught(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, config_dir: Path
) -> None:
    careless = partial(build_app, cached=partial(AnswerCache, may_use=lambda *_: True))
    async with running_stack(database_urls, redis_url, tmp_path, config_dir=config_dir, build=careless) as stack:
        assert await personal_answers_kept(stack, redis_url) == list(PERSONAL)


async def test_without_redis_every_call_is_a_miss_and_none_an_error(
    database_urls: DatabaseUrls, tmp_path: Path, config_dir: Path
) -> None:
    async with running_stack(database_urls, NOBODY, tmp_path, config_dir=config_dir) as stack:
        assert await asked_twice(stack, {}) == ["miss", "miss"]
        assert await asked_twice(stack, {"stream": True}) == ["miss", "miss"]
        assert len(await stack.bill()) == 4


async def test_a_rule_without_a_cache_keeps_nothing_and_says_nothing(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    async with running_stack(database_urls, redis_url, tmp_path / "plain") as stack:
        answers = [await stack.ask(QUIET) for _ in range(2)]

        assert not [one for one in answers if "x-auterity-cache" in one.headers]
        assert len(await stack.bill()) == 2
        assert not await kept_in(redis_url, stack.organization_id)
