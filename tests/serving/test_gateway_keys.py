"""Keys at the gateway: remembered for a minute, ended by their organization's epoch, and never trusted with money."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.redis_key_epochs import KeyEpochs
from auterity_dagster.storage.repositories.api_keys import revoke
from auterity_dagster.storage.tables.identity import ApiKeyRow
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import Stack, new_organization, running_stack, until

NOBODY = "redis://127.0.0.1:9"


@pytest.fixture
async def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(database_urls, redis_url, tmp_path) as stack:
        yield stack


async def reads(stack: Stack) -> int:
    """Return the status of a call that costs nothing: only the cache of keys says whether it is admitted."""
    async with stack.http() as client:
        return (await client.get("/v1/models")).status_code


async def revoke_in_the_database(stack: Stack) -> None:
    async with stack.database.begin(stack.organization_id) as session:
        key_id = (await session.scalars(select(ApiKeyRow.id).where(ApiKeyRow.purposes == ["workflow"]))).one()
        await revoke(session, key_id)


async def stops(stack: Stack) -> None:
    async def is_refused() -> bool:
        return await reads(stack) == 401

    await until(is_refused)


async def test_a_new_epoch_ends_a_key_early_and_without_one_the_hold_still_refuses_it(
    stack: Stack, database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> None:
    database = BlockingDatabase(database_urls.application)
    organization_id, key = new_organization(database, tmp_path / "secrets", name="theirs")
    database.close()
    theirs = replace(stack, organization_id=organization_id, key=key)
    assert [await reads(one) for one in (stack, theirs)] == [200, 200]

    for one in (stack, theirs):
        await revoke_in_the_database(one)
    async with Redis.from_url(redis_url) as redis:
        await KeyEpochs(redis).renew(theirs.organization_id)
    await stops(theirs)

    assert await reads(stack) == 200, "the control: without a new epoch the key is remembered for a minute"
    spending = await stack.ask()
    assert (spending.status_code, spending.json()["error"]["code"]) == (401, "key_revoked")
    assert await stack.bill() == []


async def test_an_epoch_that_redis_lost_is_another_one(stack: Stack, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await KeyEpochs(redis).renew(stack.organization_id)
        assert await reads(stack) == 200
        await revoke_in_the_database(stack)
        await redis.delete(f"auterity:key-epoch:{stack.organization_id}")

    await stops(stack)


async def test_without_redis_a_key_is_remembered_for_a_second_only(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    async with running_stack(database_urls, NOBODY, tmp_path) as stack:
        assert await reads(stack) == 200
        await revoke_in_the_database(stack)

        await stops(stack)
