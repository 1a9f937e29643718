"""Kept answers in Redis: found by a keyed digest, sealed under the organization's own key, gone after their time.

While Redis is away there are none: nobody waits for it longer than for one answer of it, and nothing is kept.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auterity_dagster.identity.derivation import derived_secret
from auterity_dagster.relaycore.ports import AnswerPlace
from auterity_dagster.storage.sealing import Cell, seal, unseal

ANSWER_WITHIN_S = 0.05
AGAIN_AFTER_S = 1.0
"""A Redis that did not answer is left alone for so long: nobody waits for it meanwhile."""

LOOK_AGAIN_S = 0.05

_log = structlog.get_logger(__name__)
Reply = TypeVar("Reply")


class RedisAnswers:
    """The answers of this installation."""

    def __init__(self, redis: Redis, *, pepper: bytes, now: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._pepper, self._now = redis, pepper, now
        self._again_at_s = 0.0
        self._secrets: dict[UUID, bytes] = {}

    def place(self, organization_id: UUID, identity: bytes) -> AnswerPlace:
        secret = self._secrets.get(organization_id)
        if secret is None:
            secret = derived_secret(self._pepper, label="kept answers", parts=(organization_id.bytes,))
            self._secrets[organization_id] = secret
        return AnswerPlace(organization_id, hmac.digest(secret, identity, "sha256"))

    async def find(self, place: AnswerPlace) -> bytes | None:
        sealed = await self._answered(lambda: self._redis.get(_name(place)))
        if not isinstance(sealed, bytes):
            return None
        try:
            return unseal(self._pepper, sealed, cell=_cell(place))
        except InvalidTag:
            _log.error("kept_answer_does_not_open", then="it counts as none")
            return None

    async def claim(self, place: AnswerPlace, *, within_s: int) -> bool:
        claimed = await self._answered(lambda: self._redis.set(_claim(place), b"", nx=True, ex=within_s))
        return bool(claimed) or self._is_away

    async def found_later(self, place: AnswerPlace) -> bytes | None:
        while True:
            is_claimed = await self._answered(lambda: self._redis.exists(_claim(place)))
            value = await self.find(place)  # after the claim was seen: what was kept before its end is there
            if value is not None or not is_claimed:
                return value
            await asyncio.sleep(LOOK_AGAIN_S)

    async def keep(self, place: AnswerPlace, value: bytes | None, *, ttl_s: int) -> None:
        commands = self._redis.pipeline(transaction=False)
        if value is not None:
            commands.set(_name(place), seal(self._pepper, value, cell=_cell(place)), ex=ttl_s)
        commands.delete(_claim(place))
        await self._answered(lambda: commands.execute())

    @property
    def _is_away(self) -> bool:
        return self._now() < self._again_at_s

    async def _answered(self, ask: Callable[[], Awaitable[Reply]]) -> Reply | None:
        if self._is_away:
            return None
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await ask()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("cache_away", reason=type(error).__name__)
            self._again_at_s = self._now() + AGAIN_AFTER_S
            return None


def _name(place: AnswerPlace) -> str:
    return f"auterity:answer:{place.organization_id}:{place.digest.hex()}"


def _claim(place: AnswerPlace) -> str:
    return f"{_name(place)}:asked"


def _cell(place: AnswerPlace) -> Cell:
    return Cell(place.organization_id, "redis", "answer", UUID(bytes=place.digest[:16]))
