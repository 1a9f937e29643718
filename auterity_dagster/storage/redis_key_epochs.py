"""Key epochs: a token of each organization in Redis that every change of its keys replaces: caches end early."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

READ_EVERY_S = 1.0
ANSWER_WITHIN_S = 0.05
RENEWED_WITHIN_S = 2.0
"""Whoever changes a key can wait; that all others hear of it is worth it."""

LIVE_S = 3 * READ_EVERY_S
"""Epochs that were read longer ago say nothing."""

REMEMBERED = 10_000
NONE = b""
"""The epoch of an organization whose keys were never changed, or whose epoch Redis has lost."""

_log = structlog.get_logger(__name__)
Reply = TypeVar("Reply")


class KeyEpochs:
    """The epochs of the organizations that this process was asked about; `watch_for_ever` keeps them fresh.

    What was cached under one epoch counts only while Redis says the same one. Tokens are compared, not ordered: one
    that Redis lost is another one, too.
    """

    def __init__(self, redis: Redis, *, now: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._now = redis, now
        self._epochs: dict[UUID, bytes] = {}
        self._read_at_s = float("-inf")

    @property
    def is_live(self) -> bool:
        """True while Redis answers, so that a change is heard of within about a second."""
        return self._now() - self._read_at_s <= LIVE_S

    def is_current(self, organization_id: UUID, epoch: bytes) -> bool:
        """True if what was cached under this epoch may still be used."""
        return self._epochs.get(organization_id) == epoch

    async def of(self, organization_id: UUID) -> bytes:
        """Return the organization's epoch. Read it before what is to be cached: a change in between then shows."""
        if organization_id not in self._epochs:
            read = await self._answered(lambda: self._redis.get(_name(organization_id)))
            if len(self._epochs) >= REMEMBERED:
                self._epochs.clear()
            # Another one may have come meanwhile: the newer one stays.
            self._epochs.setdefault(organization_id, _token(read))
        return self._epochs[organization_id]

    async def renew(self, organization_id: UUID) -> None:
        """End every cache of the organization's keys. Call it once the change is committed.

        Where Redis does not answer, other processes cache for a second only; what they cached before ends in a minute.
        """
        token = uuid4().hex.encode()
        self._epochs[organization_id] = token
        await self._answered(lambda: self._redis.set(_name(organization_id), token), within_s=RENEWED_WITHIN_S)

    async def watch_for_ever(self) -> None:
        """Read all epochs again each second."""
        while True:
            await self._read()
            await asyncio.sleep(READ_EVERY_S)

    async def _read(self) -> None:
        before = dict(self._epochs)
        names = [_name(one) for one in before] or [_name(UUID(int=0))]
        read: list[Any] | None = await self._answered(lambda: self._redis.mget(names))
        if read is None:
            return
        for (organization_id, epoch), found in zip(before.items(), read, strict=False):
            # What was renewed here while Redis was asked is newer than its answer.
            if self._epochs.get(organization_id) == epoch:
                self._epochs[organization_id] = _token(found)
        self._read_at_s = self._now()

    async def _answered(
        self, ask: Callable[[], Awaitable[Reply]], *, within_s: float = ANSWER_WITHIN_S
    ) -> Reply | None:
        try:
            async with asyncio.timeout(within_s):
                return await ask()
        except (RedisError, OSError, TimeoutError) as error:
            if self.is_live:
                _log.warning("key_epochs_away", reason=type(error).__name__)
            self._read_at_s = float("-inf")
            return None


def _name(organization_id: UUID) -> str:
    return f"auterity:key-epoch:{organization_id}"


def _token(read: object) -> bytes:
    return read if isinstance(read, bytes) else NONE
