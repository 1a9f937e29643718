"""Learned predictors in this process's memory: read from the object store by digest, off the callers' path.

MLflow is not asked: its alias is projected into PostgreSQL, and the bytes are checked against the digest that stands
there. What is refused, or is not there, is reported, and the posterior goes on choosing.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence

import structlog

from auterity_dagster.errors import AuterityError
from auterity_dagster.relaycore.predicted_quality import (
    ActivePredictor,
    PredictorMode,
    PromptPredictor,
    PublishedPredictor,
    to_ask,
)
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.predictor_bundle import stored_predictor

MAX_LOADED = 8
"""One takes about 20 MiB; the one that was not asked for the longest makes room."""

TRIED_AGAIN_S = 60.0

_log = structlog.get_logger(__name__)


class LoadedPredictors:
    """Predictors by digest. `of` never waits: what is not here yet is noted, and `load_wanted` brings it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._loaded: OrderedDict[str, PromptPredictor] = OrderedDict()
        self._wanted: set[str] = set()
        self._refused_until_s: dict[str, float] = {}

    def of(self, digest: str) -> PromptPredictor | None:
        """Return a predictor, or None where it is not loaded."""
        if digest in self._loaded:
            self._loaded.move_to_end(digest)
            return self._loaded[digest]
        self._wanted.add(digest)
        return None

    def active(self, mode: PredictorMode, published: Sequence[PublishedPredictor]) -> tuple[ActivePredictor, ...]:
        """Return those that are to be asked and are here."""
        found = ((digest, may_choose, self.of(digest)) for digest, may_choose in to_ask(mode, published))
        return tuple(ActivePredictor(digest, may, one) for digest, may, one in found if one is not None)

    async def load_wanted(self) -> bool:
        """Load what was asked for and is not here; return whether anything came."""
        wanted, self._wanted = self._wanted, set()
        now_s, has_come = time.monotonic(), False
        self._refused_until_s = {digest: until for digest, until in self._refused_until_s.items() if until > now_s}
        for digest in sorted(wanted - self._refused_until_s.keys()):
            has_come |= await self._load(digest)
        return has_come

    async def _load(self, digest: str) -> bool:
        try:
            predictor = await asyncio.to_thread(stored_predictor, self._store, digest)
        except (AuterityError, OSError) as error:
            self._refused_until_s[digest] = time.monotonic() + TRIED_AGAIN_S
            reason = error.message if isinstance(error, AuterityError) else type(error).__name__
            _log.error("predictor_refused", digest=digest, reason=reason, then="the posterior chooses")
            return False
        self._loaded[digest] = predictor
        if len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)
        _log.info("predictor_loaded", digest=digest)
        return True
