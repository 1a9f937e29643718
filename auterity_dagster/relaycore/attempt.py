"""One attempt at one deployment: what it has shown so far, and how its hold is closed."""

import time
from dataclasses import dataclass, field
from typing import Literal

from auterity_dagster.errors import PriceUnknown, ProviderFailed
from auterity_dagster.money import NanoUsd
from auterity_dagster.relaycore.chat import ChatRequest, UsageReport
from auterity_dagster.relaycore.ports import Hold, Ledger, Settlement, UsageRecord
from auterity_dagster.relaycore.pricing import Usage, cost
from auterity_dagster.relaycore.route import Route, Step

HoldState = Literal["settled", "voided", "unknown"]


@dataclass(slots=True)
class Attempt:
    """A running attempt. Whatever the provider reports is noted here, so that a failure can still be settled."""

    request: ChatRequest
    route: Route
    step: Step
    hold: Hold
    started_s: float = field(default_factory=time.monotonic)
    first_token_ms: int | None = None
    provider_request_id: str | None = None
    usage: Usage | None = None
    is_budget_stop: bool = False
    """Whether the answer was cut because a budget had no room for its next slice."""
    _is_usage_broken: bool = False

    @property
    def is_sliced(self) -> bool:
        """True if less is held than the answer may need in all."""
        return self.hold.request.max_tokens < self.step.max_tokens

    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields of the request that the deployment's wire lacks, and that were left out."""
        return self.request.droppable if self.step.deployment.wire != self.request.wire else ()

    @property
    def budget_left_nusd(self) -> NanoUsd | None:
        """Room of the tightest hard budget after the hold; None without one."""
        return self.hold.budget_left_nusd

    @property
    def latency_ms(self) -> int:
        """Milliseconds since the attempt began."""
        return round((time.monotonic() - self.started_s) * 1000)

    @property
    def cost_nusd(self) -> NanoUsd | None:
        """What the reported usage costs; None while nobody can say."""
        if self.usage is None or self._is_usage_broken:
            return None
        try:
            return cost(self.usage, self.step.price)
        except PriceUnknown:
            return None

    def note(self, report: UsageReport | None, provider_request_id: str | None) -> None:
        """Take what the provider said. The last report counts; nonsense, or one that falls, makes the usage unknown."""
        self.provider_request_id = provider_request_id or self.provider_request_id
        if report is None:
            return
        before, now = self.usage, report.usage
        if now is None or (before is not None and now.completion_tokens < before.completion_tokens):
            self._is_usage_broken = True
        else:
            self.usage = now

    def note_first_token(self) -> None:
        """The first of what the model said is here."""
        if self.first_token_ms is None:
            self.first_token_ms = self.latency_ms


async def close_hold(ledger: Ledger, attempt: Attempt, failure: ProviderFailed | None) -> HoldState:
    """Close the attempt's hold by what is known: a valid report settles, a certain refusal voids, else it is unknown.

    To be awaited in a shield: a caller that leaves must not keep the ledger from hearing of it.
    """
    record = UsageRecord(
        outcome="ok" if failure is None else failure.cause,
        usage=attempt.usage,
        latency_ms=attempt.latency_ms,
        first_token_ms=attempt.first_token_ms,
        is_streamed=attempt.request.is_stream,
        provider_request_id=attempt.provider_request_id,
        task=attempt.request.task,
        policy_digest=attempt.route.policy_digest,
        rule=attempt.route.rule,
    )
    amount = attempt.cost_nusd
    if amount is not None:
        await ledger.settle(Settlement(attempt.hold, amount, record))
        return "settled"
    if failure is not None and failure.is_billed is False:
        await ledger.void(attempt.hold, record)
        return "voided"
    await ledger.leave_unknown(attempt.hold, record)
    return "unknown"
