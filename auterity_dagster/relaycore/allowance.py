"""Daily allowances: what a rule may spend on shadow calls or on trying other deployments, kept as hard budgets."""

from dataclasses import dataclass
from typing import Literal

from auterity_dagster.money import NanoUsd

SHADOW, EXPLORATION = "shadow", "exploration"
"""Purposes that pay for themselves."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one rule may spend a day, in the policy's time zone, for one of these purposes."""

    purpose: Literal["shadow", "exploration"]
    rule: str
    cap_nusd: NanoUsd
    time_zone: str

    @property
    def value(self) -> str:
        """What its budget binds: holds that say so."""
        return f"{self.purpose}/{self.rule}"

    @property
    def name(self) -> str:
        """Its budget's name."""
        return f"Allowance: {self.value}"
