"""What training will take and cost, from a few timed steps: seconds and money with a 90 % interval."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from auterity_dagster.money import NanoUsd, in_usd
from auterity_dagster.neuroweaver.machine_price import cost_of
from auterity_dagster.neuroweaver.recipe import Recipe
from auterity_dagster.neuroweaver.stage import Stage

LEAST_PROBED, MOST_PROBED = 3, 20
PROBED_SHARE = 20
"""One step in so many is timed beforehand, so that the probe adds a twentieth to the training at most."""

# Student's t at 95 % (one-sided) by degrees of freedom; beyond the table the last value is a little wide, never narrow.
_T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753)


class Probe(NamedTuple):
    """Timed steps of one stage: how many it will have, and how long the timed ones took."""

    stage: Stage
    steps: int
    step_s: tuple[float, ...]


class StageEstimate(BaseModel):
    """What one stage will take; `low` and `high` bound 90 % of what is expected if the machine stays as it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    steps: int
    seconds: float
    low_s: float
    high_s: float


class CostEstimate(BaseModel):
    """All trained stages of a candidate, and the judges' part of the budget, which is bounded and not estimated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[StageEstimate, ...]
    nusd_per_hour: NanoUsd
    judge_cap_nusd: NanoUsd
    cap_nusd: NanoUsd

    @property
    def cost_nusd(self) -> NanoUsd:
        """What the machine is expected to cost."""
        return self._cost([stage.seconds for stage in self.stages])

    @property
    def low_nusd(self) -> NanoUsd:
        """The lower end."""
        return self._cost([stage.low_s for stage in self.stages])

    @property
    def high_nusd(self) -> NanoUsd:
        """The upper end."""
        return self._cost([stage.high_s for stage in self.stages])

    @property
    def is_within_budget(self) -> bool:
        """True if the upper end and everything that judges may spend fit under the cap."""
        return self.high_nusd + self.judge_cap_nusd <= self.cap_nusd

    @property
    def told(self) -> str:
        """The estimate in a sentence."""
        judges = f" and up to {in_usd(self.judge_cap_nusd)} for judges" if self.judge_cap_nusd else ""
        bounds = f"{_dollars(self.low_nusd)} to {_dollars(self.high_nusd)}"
        return f"about {_dollars(self.cost_nusd)} USD ({bounds}) of machine time{judges}, cap {in_usd(self.cap_nusd)}"

    def seconds_of(self, stage: Stage) -> float | None:
        """Return what one stage is expected to take."""
        return next((each.seconds for each in self.stages if each.stage == stage), None)

    def _cost(self, seconds: Sequence[float]) -> NanoUsd:
        return cost_of(sum(seconds), nusd_per_hour=self.nusd_per_hour)


def probed_steps(steps: int) -> int:
    """Return how many steps are timed for a stage of so many."""
    return max(LEAST_PROBED, min(MOST_PROBED, steps // PROBED_SHARE))


def steps_of(recipe: Recipe, stage: Stage, *, rows: int) -> int:
    """Return how many optimiser steps a stage of the recipe has on so many rows; 0 for one it skips."""
    block = {Stage.SFT: recipe.sft, Stage.DPO: recipe.dpo}.get(stage)
    if block is None:
        return 0
    return block.steps or math.ceil((block.epochs or 1.0) * math.ceil(rows / block.rows_per_step))


def estimate(probe: Probe, *, fixed_s: float) -> StageEstimate:
    """Return what a stage will take: its steps at the mean of the timed ones, and what it does before the first.

    The interval is that of the sum of the steps to come, given the spread of those that were timed.
    """
    count = len(probe.step_s)
    mean = sum(probe.step_s) / count
    spread = math.sqrt(sum((each - mean) ** 2 for each in probe.step_s) / max(count - 1, 1))
    t = _T95[min(max(count - 1, 1), len(_T95)) - 1]
    half = t * spread * math.sqrt(1 / count + 1 / max(probe.steps, 1)) * probe.steps
    seconds = fixed_s + mean * probe.steps
    return StageEstimate(
        stage=probe.stage,
        steps=probe.steps,
        seconds=round(seconds, 1),
        low_s=round(max(fixed_s, seconds - half), 1),
        high_s=round(seconds + half, 1),
    )


def probes_from(metrics: Mapping[str, float]) -> tuple[Probe, ...]:
    """Read the probes out of what the stage `plan` measured."""
    found: list[Probe] = []
    for stage in (Stage.SFT, Stage.DPO):
        count = int(metrics.get(f"{stage}_probed", 0))
        if count:
            seconds = tuple(metrics[f"{stage}_step_{number}_s"] for number in range(count))
            found.append(Probe(stage, int(metrics[f"{stage}_steps"]), seconds))
    return tuple(found)


def _dollars(amount_nusd: NanoUsd) -> str:
    """Write dollars with two decimals, rounded up: an estimate of no cents costs one."""
    cents = -(-amount_nusd // 10_000_000)
    return f"{cents // 100}.{cents % 100:02d}"
