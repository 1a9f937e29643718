"""The platform's steering policy and price list: two files that an operator edits, as they were last found good."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.relaycore.price_list import PriceList, load_prices
from auterity_dagster.relaycore.steering_file import load_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """Both files as read together."""

    policy: SteeringPolicy
    prices: PriceList


@dataclass(slots=True)
class PlatformFiles:
    """`good` is swapped as one pointer; a file with a mistake is counted, and the last good pair stays.

    Raises `ConfigurationInvalid` where they cannot be read at the start.
    """

    config_dir: Path
    load_failures: int = 0
    good: Files = field(init=False)
    _stamps: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._stamps = self._looked_at()
        self.good = self._read()

    async def reload_changed(self) -> ConfigurationInvalid | None:
        """Read the files again if one of them changed. Return why they were refused, if they were."""
        stamps = self._looked_at()
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        try:
            # In a thread: a large policy takes a second to parse, and answers must not wait for it.
            self.good = await asyncio.to_thread(self._read)
        except ConfigurationInvalid as error:
            self.load_failures += 1
            _log.error("policy_refused", reason=error.message, in_force=self.good.policy.digest)
            return error
        _log.info("policy_loaded", digest=self.good.policy.digest)
        return None

    def _read(self) -> Files:
        prices = load_prices(self.config_dir / "prices.yaml")
        in_force = prices.all_in_force(datetime.now(UTC))
        return Files(load_policy(self.config_dir / "steering.yaml", prices=in_force), prices)

    def _looked_at(self) -> tuple[int, ...]:
        paths = (self.config_dir / "steering.yaml", self.config_dir / "prices.yaml")
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
