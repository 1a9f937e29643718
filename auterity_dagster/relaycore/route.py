"""A route: the plan of a request, and what was thought of every deployment that was looked at."""

from dataclasses import dataclass

from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.catalog import Deployment
from auterity_dagster.relaycore.predicted_quality import QualityPrediction, QualitySource
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_effects import Cause
from auterity_dagster.relaycore.steering_rules import Decision


@dataclass(frozen=True, slots=True)
class Considered:
    """One deployment that was looked at. `removed_by` is None for those that could have answered.

    `expected_cost_nusd` is the call itself with what a failure would add; `repair_nusd` is what the bad share of
    answers costs to put right, which ranks but is never billed.
    """

    deployment_id: str
    removed_by: str | None
    quality_mean: float
    quality_lower_bound: float
    expected_cost_nusd: NanoUsd | None = None
    repair_nusd: NanoUsd | None = None
    expected_output_tokens: int | None = None
    late_probability: float | None = None
    quality_source: QualitySource = "posterior"
    place: int | None = None
    """0 for the choice, 1 for the first fallback; None for those that are not on the route."""


@dataclass(frozen=True, slots=True)
class Step:
    """One deployment of a route, what it is granted, and the amount that one attempt cannot exceed."""

    deployment: Deployment
    price: Price
    max_tokens: int
    hold_nusd: NanoUsd
    prompt_nusd: NanoUsd
    is_degraded: bool
    is_explored: bool = False
    """It is tried in place of the choice, and paid for by the rule's allowance."""


@dataclass(frozen=True, slots=True)
class Route:
    """The plan of a request: the choice and its fallbacks, in order, and why.

    `policy_version` is None where the platform's policy decided. `propensity` is how likely the first step was to be
    first; None where nothing is drawn or split.
    """

    policy_name: str
    policy_version: int | None
    policy_digest: str
    decision: Decision
    steps: tuple[Step, ...]
    considered: tuple[Considered, ...]
    prediction: QualityPrediction | None = None
    """The one that was believed instead of the posterior."""
    propensity: float | None = None

    @property
    def rule(self) -> str:
        """The rule that decided."""
        return self.decision.rule

    @property
    def objective(self) -> str:
        """What was optimised."""
        return self.decision.objective

    @property
    def fallback_on(self) -> tuple[Cause, ...]:
        """After which failures the next step may be tried."""
        return self.decision.fallback_on
