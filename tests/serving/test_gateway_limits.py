"""Rate limits at the gateway: said in headers, refused with 429, corrected by what was used, kept without Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from auterity_dagster.relaycore.rate_limit import RateLimit
from auterity_dagster.storage.repositories.rate_limits import put_rate_limit
from auterity_dagster.storage.tables.identity import ApiKeyRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, running_stack, until

NOBODY = "redis://127.0.0.1:9"


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path) as stack:
        yield stack


async def limit_organization(stack: Stack, *, requests: int | None = None, tokens: int | None = None) -> None:
    async with stack.database.begin(stack.organization_id) as session:
        await put_rate_limit(session, RateLimit("organization", stack.organization_id, requests, tokens))


async def test_who_has_no_limit_is_told_of_none_and_needs_no_redis(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    async with running_stack(database_urls, NOBODY, tmp_path) as stack:
        answer = await stack.ask()

    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_what_is_left_stands_in_headers_and_the_next_call_too_many_is_told_when_to_come_back(
    stack: Stack,
) -> None:
    await limit_organization(stack, requests=2)

    answers = [await stack.ask() for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    refused = answers[-1]
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.json()["error"]["code"] == "rate_limited"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert len(await stack.bill()) == 2


async def test_the_strictest_of_several_limits_counts(stack: Stack) -> None:
    await limit_organization(stack, requests=100)
    async with stack.database.begin(stack.organization_id) as session:
        key_id = (await session.scalars(select(ApiKeyRow.id).where(ApiKeyRow.purposes == ["workflow"]))).one()
        await put_rate_limit(session, RateLimit("key", key_id, 1, None))

    answers = [await stack.ask() for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[-1].json()["error"]["details"]["scope"] == "key"


async def test_tokens_are_counted_by_an_estimate_and_given_back_when_the_usage_is_known(stack: Stack) -> None:
    await limit_organization(stack, tokens=10_000)
    first = await stack.ask({"max_tokens": 8000})
    left_at_first = int(first.headers["x-ratelimit-remaining-tokens"])

    async def is_corrected() -> bool:
        again = await stack.ask({"max_tokens": 16})
        return again.status_code == 200 and int(again.headers["x-ratelimit-remaining-tokens"]) > 8000

    assert left_at_first < 2000
    await until(is_corrected)


async def test_without_redis_each_process_admits_its_share(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    async with running_stack(database_urls, NOBODY, tmp_path) as stack:
        await limit_organization(stack, requests=3)

        statuses = [(await stack.ask()).status_code for _ in range(4)]

    assert statuses == [200, 200, 200, 429]
