"""An epoch that was read before a change is not current after it, whoever read it and however late it is used."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from auterity_dagster.storage.redis_key_epochs import NONE, KeyEpochs


class Unordered(KeyEpochs):
    """The broken variant: what was read last counts, also where a newer epoch is known."""

    def is_current(self, organization_id: UUID, epoch: bytes) -> bool:
        return True


async def late_write_is_refused(redis: Redis, made: type[KeyEpochs]) -> bool:
    """Begin to read a key, change it meanwhile, and return whether what was read may no longer be remembered."""
    organization_id, reader, writer = uuid4(), made(redis), KeyEpochs(redis)
    epoch = await reader.of(organization_id)
    await writer.renew(organization_id)
    await reader._read()
    return not reader.is_current(organization_id, epoch)


@pytest.mark.parametrize(("made", "is_refused"), [(KeyEpochs, True), (Unordered, False)], ids=["ours", "broken"])
async def test_a_cache_write_loses_to_a_newer_epoch(redis_url: str, made: type[KeyEpochs], is_refused: bool) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert await late_write_is_refused(redis, made) is is_refused


async def test_an_organization_without_changes_has_an_epoch_too_and_a_dead_redis_is_not_live(redis_url: str) -> None:
    organization_id = uuid4()
    async with Redis.from_url(redis_url) as redis, Redis.from_url("redis://127.0.0.1:9") as dead:
        living, alone = KeyEpochs(redis), KeyEpochs(dead)
        for one in (living, alone):
            assert await one.of(organization_id) == NONE
            await one._read()

        assert (living.is_live, alone.is_live) == (True, False)


class AnsweringLate:
    """A Redis that answers `mget` with what it held before somebody did something meanwhile."""

    def __init__(self, redis: Redis, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._redis, self._meanwhile = redis, meanwhile
        self.get, self.set = redis.get, redis.set

    async def mget(self, names: list[str]) -> list[Any]:
        held = await self._redis.mget(names)
        await self._meanwhile()
        return held


async def test_an_answer_that_was_on_its_way_does_not_undo_a_change_of_this_process(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        organization_id = uuid4()
        late: Any = AnsweringLate(redis, lambda: epochs.renew(organization_id))
        epochs = KeyEpochs(late)
        epoch = await epochs.of(organization_id)

        await epochs._read()

        assert not epochs.is_current(organization_id, epoch)
