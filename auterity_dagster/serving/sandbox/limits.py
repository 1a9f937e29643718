"""Streams that stop at a limit of tokens and go on once they are told of more: never a token beyond what was told."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from auterity_dagster.errors import NotFound
from auterity_dagster.serving.sandbox.completion import Completion
from auterity_dagster.serving.sandbox.spoiling import Event

WAITS_S = 10.0
"""So long a stream waits at its limit; then it ends there."""


@dataclass(slots=True)
class Limit:
    """How many tokens one stream may produce, and whether it will be told of more."""

    max_tokens: int
    is_last: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, max_tokens: int, *, is_last: bool) -> None:
        """Take what the caller tells; a lower limit than before changes nothing."""
        self.max_tokens, self.is_last = max(self.max_tokens, max_tokens), is_last
        self._changed.set()

    async def is_raised(self, reached: int) -> bool:
        """Wait at the limit that was reached; True once there is a higher one."""
        try:
            async with asyncio.timeout(WAITS_S):
                while self.max_tokens <= reached and not self.is_last:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return self.max_tokens > reached


class Limits:
    """The streams of this process that can be told of more, by the name that their caller gave them."""

    def __init__(self) -> None:
        self._open: dict[str, Limit] = {}

    @contextmanager
    def opened(self, name: str, *, max_tokens: int) -> Generator[Limit]:
        """The limit of a stream, for as long as it lasts."""
        limit = self._open[name] = Limit(max_tokens)
        try:
            yield limit
        finally:
            del self._open[name]

    def raise_to(self, name: str, max_tokens: int, *, is_last: bool) -> None:
        """Tell a stream. Raises `NotFound` for one that has ended."""
        if name not in self._open:
            raise NotFound("there is no such stream")
        self._open[name].set(max_tokens, is_last=is_last)


Bill = Callable[[Completion, int], Awaitable[None]]


class Written(Protocol):
    """Writes an answer that may have so many tokens: the completion, and its events on the wire."""

    def __call__(self, max_tokens: int) -> tuple[Completion, Iterable[Event]]: ...


async def within_limit(
    limits: Limits, name: str, written: Written, bill: Bill, *, max_tokens: int, token_latency_s: float
) -> AsyncGenerator[str]:
    """Send what `written` gives for the limit of the moment; what was sent is billed, also when it is cut off."""
    sent_events, sent_tokens, is_billed = 0, 0, False
    completion, events = written(max_tokens)
    with limits.opened(name, max_tokens=max_tokens) as limit:
        try:
            while True:
                listed = list(events)
                end = max((number for number, (_, tokens) in enumerate(listed, start=1) if tokens), default=0)
                for event, tokens in listed[sent_events:end]:
                    sent_tokens += tokens
                    await asyncio.sleep(token_latency_s * tokens)
                    yield event
                sent_events = end
                if not completion.is_cut_short or not await limit.is_raised(sent_tokens):
                    break
                completion, events = written(limit.max_tokens)
            is_billed = True
            await bill(completion, sent_tokens)
            for event, _ in listed[sent_events:]:
                yield event
        finally:
            if not is_billed:
                await asyncio.shield(bill(completion, sent_tokens))
