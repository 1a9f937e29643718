"""What a caller gets beside the bytes of its answer, whether a provider was asked now or an answer was kept."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.cache_hit import Hit
from auterity_dagster.relaycore.chat import CacheResult, StreamFrame
from auterity_dagster.relaycore.rate_limit import Admission


@dataclass(frozen=True, slots=True)
class Answer:
    """The attempt that answered or the kept answer, how many attempts there were, and how limits stand.

    `cache` is None where the rule has no cache.
    """

    attempt: Attempt | Hit
    attempts: int
    admission: Admission | None
    cache: CacheResult | None = None


class AnswerStream(Protocol):
    """A stream on its way to its caller."""

    @property
    def is_broken(self) -> bool:
        """Whether the caller was told that the stream broke off."""
        ...

    @property
    def has_content_ready(self) -> bool:
        """True if `frames` yields more of what the model said without waiting: it can leave together."""
        ...

    def frames(self, *, heartbeat_s: float) -> AsyncIterator[StreamFrame | None]:
        """Yield the frames; None where nothing came for a heartbeat. Raises `ProviderFailed` when it breaks off."""
        ...

    def leave(self) -> None:
        """The caller is gone."""
        ...
