"""What an hour of a machine costs, read from `config/machines.yaml`, and what seconds of it come to."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from auterity_dagster.errors import PriceUnknown
from auterity_dagster.money import NanoUsd, nano_usd
from auterity_dagster.neuroweaver.configuration import read_configuration
from auterity_dagster.neuroweaver.recipe import Dollars, Hardware

_MS_PER_HOUR = 3_600_000


class MachinePrice(BaseModel):
    """What one process of a class of hardware costs an hour, and who says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_hour: Dollars
    source: str = Field(min_length=1, max_length=500)

    @property
    def nusd_per_hour(self) -> NanoUsd:
        """The price in nano-dollars."""
        return nano_usd(self.usd_per_hour)


class MachinePrices(BaseModel):
    """Prices by class of hardware; a class without one cannot be trained on, because nobody could say what it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1, le=1)
    machines: Mapping[str, MachinePrice]

    def nusd_per_hour(self, hardware: Hardware) -> NanoUsd:
        """Return what a stage costs an hour: processes of a CPU class share one machine, each GPU is one.

        Raises `PriceUnknown`.
        """
        price = self.machines.get(hardware.device_class)
        if price is None:
            raise PriceUnknown(f"config/machines.yaml has no price for {hardware.device_class}")
        count = 1 if hardware.device_class.startswith("cpu") else hardware.processes
        return price.nusd_per_hour * count


def load_machine_prices(path: Path) -> MachinePrices:
    """Read the prices. Raises `ConfigurationInvalid`."""
    return read_configuration(path, MachinePrices)


def cost_of(seconds: float, *, nusd_per_hour: NanoUsd) -> NanoUsd:
    """Return what seconds of a machine cost, rounded up once, from whole milliseconds."""
    return -(-round(seconds * 1000) * nusd_per_hour // _MS_PER_HOUR)


def seconds_for(amount_nusd: NanoUsd, *, nusd_per_hour: NanoUsd) -> int | None:
    """Return how many whole seconds an amount pays for; None where the machine costs nothing."""
    return None if nusd_per_hour == 0 else amount_nusd * 3600 // nusd_per_hour
