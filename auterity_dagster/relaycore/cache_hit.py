"""A kept answer that is given again."""

from dataclasses import dataclass

from auterity_dagster.errors import PriceUnknown
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.pricing import Usage, cost
from auterity_dagster.relaycore.route import Route, Step


@dataclass(frozen=True, slots=True)
class Hit:
    """A kept answer that is given again: no provider was called, nothing was held, nothing is owed.

    `step` is where it came from, and would come from again; `usage` is what it took then.
    """

    request: ChatRequest
    route: Route
    step: Step
    usage: Usage

    @property
    def cost_nusd(self) -> NanoUsd:
        """Nothing."""
        return 0

    @property
    def saved_nusd(self) -> NanoUsd | None:
        """What the same usage costs today; None where today's price lacks a class of it."""
        try:
            return cost(self.usage, self.step.price)
        except PriceUnknown:
            return None

    @property
    def budget_left_nusd(self) -> NanoUsd | None:
        """No budget was looked at."""
        return None

    @property
    def is_budget_stop(self) -> bool:
        """Never: an answer that a budget cut is not kept."""
        return False

    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields of the request that were left out when the answer was made."""
        return self.request.droppable if self.step.deployment.wire != self.request.wire else ()
