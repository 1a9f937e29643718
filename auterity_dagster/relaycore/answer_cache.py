"""The gateway's cache of answers: looked up before a provider is asked, filled after it answered, one call at a time.

Only calls whose rule has a cache come here. Whatever goes wrong with it, the call goes on as if there were none.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from auterity_dagster.relaycore.answer import Answer, AnswerStream
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.relaycore.chat import CacheResult, ChatRequest, ProviderAnswer, StreamFrame
from auterity_dagster.relaycore.ports import AnswerPlace, AnswerStore
from auterity_dagster.relaycore.rate_limit import Admission
from auterity_dagster.relaycore.recorded_stream import RecordedStream
from auterity_dagster.relaycore.response_cache import (
    KEPT_BYTES,
    KeptAnswer,
    identity,
    may_be_kept,
    packed,
    step_of,
    unpacked,
)
from auterity_dagster.relaycore.route import Route

AskWhole = Callable[[], Awaitable[tuple[Answer, ProviderAnswer]]]
AskStream = Callable[[], Awaitable[tuple[Answer, AnswerStream]]]
MayUse = Callable[[ChatRequest, Mapping[str, object], Route], bool]
Kept = TypeVar("Kept")


class Asking(Protocol):
    """A request on its way. `cache` becomes what its caller is told of the cache."""

    request: ChatRequest
    body: Mapping[str, object]
    route: Route
    admission: Admission | None
    cache: CacheResult | None

    @property
    def remaining_s(self) -> float:
        """Seconds to its deadline."""
        ...


class AnswerCache:
    """Kept answers, and which this process is asking for; `may_use` says whether a call may use them."""

    def __init__(self, store: AnswerStore, *, may_use: MayUse = may_be_kept) -> None:
        self._store, self._may_use = store, may_use
        self._asked: dict[AnswerPlace, asyncio.Future[KeptAnswer | None]] = {}

    async def whole(self, asking: Asking, ask: AskWhole) -> tuple[Answer, ProviderAnswer]:
        """Return the kept answer, or ask. Equal calls at the same time wait for the first one's answer.

        Raises what `ask` raises; those who waited for it then ask themselves.
        """
        place = self._place(asking)
        if place is None:
            return await ask()
        if asking.request.cache == "refresh":
            answer, given = await ask()
            await self._keep(place, asking, _whole(answer, given))
            return answer, given
        asked = self._asked.get(place)
        if asked is None:
            return await self._first(place, asking, ask)
        kept = await _within(asking.remaining_s, asyncio.shield(asked))
        return _given(asking, kept) or await ask()

    async def stream(self, asking: Asking, ask: AskStream) -> tuple[Answer, AnswerStream]:
        """Return the kept stream, or ask and keep what passes. Nobody waits for another's stream: it may be slow."""
        place = self._place(asking)
        if place is None:
            return await ask()
        kept = await self._found(place) if asking.request.cache != "refresh" else None
        hit = _hit(asking, kept)
        if hit is not None and kept is not None:
            return hit, KeptStream(kept)
        answer, stream = await ask()
        return answer, RecordedStream(stream, lambda frames: self._keep(place, asking, _streamed(answer, frames)))

    def _place(self, asking: Asking) -> AnswerPlace | None:
        if not self._may_use(asking.request, asking.body, asking.route):
            asking.cache = "bypass"
            return None
        asking.cache = "miss"
        organization_id = asking.request.caller.organization_id
        return self._store.place(organization_id, identity(asking.request, asking.body, asking.route))

    async def _first(self, place: AnswerPlace, asking: Asking, ask: AskWhole) -> tuple[Answer, ProviderAnswer]:
        """Ask for all who want the same, unless the answer is kept or another process is already asking for it."""
        others = self._asked[place] = asyncio.get_running_loop().create_future()
        kept: KeptAnswer | None = None
        try:
            kept = await self._found(place)
            if kept is None or step_of(kept, asking.route) is None:
                kept = await self._from_another_process(place, asking)
            found = _given(asking, kept)
            if found is not None:
                return found
            try:
                answer, given = await ask()
                kept = _whole(answer, given)
            finally:
                await self._keep(place, asking, kept)
            return answer, given
        finally:
            del self._asked[place]
            others.set_result(kept)

    async def _from_another_process(self, place: AnswerPlace, asking: Asking) -> KeptAnswer | None:
        if await self._store.claim(place, within_s=math.ceil(max(asking.remaining_s, 1))):
            return await self._found(place)  # another process may have kept its answer a moment ago
        value = await _within(asking.remaining_s, self._store.found_later(place))
        return unpacked(value) if value is not None else None

    async def _found(self, place: AnswerPlace) -> KeptAnswer | None:
        value = await self._store.find(place)
        return unpacked(value) if value is not None else None

    async def _keep(self, place: AnswerPlace, asking: Asking, kept: KeptAnswer | None) -> None:
        value = packed(kept) if kept is not None else None
        await self._store.keep(place, value, ttl_s=asking.route.decision.cache.ttl_s)


class KeptStream:
    """A kept stream, given again at once."""

    is_broken = False
    has_content_ready = True

    def __init__(self, kept: KeptAnswer) -> None:
        self._kept = kept

    async def frames(self, *, heartbeat_s: float) -> AsyncIterator[StreamFrame | None]:
        """Yield the frames; there is nothing to wait for."""
        for frame in self._kept.frames:
            yield frame

    def leave(self) -> None:
        """Nothing is being read."""


async def _within(limit_s: float, wanted: Awaitable[Kept | None]) -> Kept | None:
    try:
        async with asyncio.timeout(max(limit_s, 0)):
            return await wanted
    except TimeoutError:
        return None


def _hit(asking: Asking, kept: KeptAnswer | None) -> Answer | None:
    """Return the kept answer as this call's, unless its deployment may not answer this call."""
    step = step_of(kept, asking.route) if kept is not None else None
    if kept is None or step is None:
        return None
    asking.cache = "hit"
    return Answer(Hit(asking.request, asking.route, step, kept.usage), 0, asking.admission, "hit")


def _given(asking: Asking, kept: KeptAnswer | None) -> tuple[Answer, ProviderAnswer] | None:
    hit = _hit(asking, kept)
    return (hit, kept.given) if hit is not None and kept is not None else None


def _whole(answer: Answer, given: ProviderAnswer) -> KeptAnswer | None:
    return _kept(answer, body=given.body, frames=()) if len(given.body) <= KEPT_BYTES else None


def _streamed(answer: Answer, frames: tuple[StreamFrame, ...]) -> KeptAnswer | None:
    return _kept(answer, body=None, frames=frames)


def _kept(answer: Answer, *, body: bytes | None, frames: tuple[StreamFrame, ...]) -> KeptAnswer | None:
    """Return the answer to keep; none with an unknown usage, or with fewer tokens than the route grants."""
    attempt = answer.attempt
    if not isinstance(attempt, Attempt) or attempt.usage is None or attempt.cost_nusd is None:
        return None
    if attempt.step not in attempt.route.steps or attempt.is_budget_stop:
        return None
    deployment = attempt.step.deployment
    return KeptAnswer(deployment.id, deployment.artefact_digest, attempt.usage, body, frames)
