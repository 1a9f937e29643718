"""What a rule does with a request beside choosing where it goes: kept answers before it, a shadow call after it.

Only requests whose rule says so come here; the others are answered without it.
"""

from dataclasses import dataclass
from typing import Protocol

from auterity_dagster.relaycore.allowance import Allowance
from auterity_dagster.relaycore.answer import Answer, AnswerStream
from auterity_dagster.relaycore.answer_cache import AnswerCache, Asking, AskStream, AskWhole
from auterity_dagster.relaycore.attempt import Attempt
from auterity_dagster.relaycore.chat import ProviderAnswer, StreamFrame
from auterity_dagster.relaycore.ports import Allowances
from auterity_dagster.relaycore.recorded_stream import RecordedStream
from auterity_dagster.relaycore.said import said_by_frames, said_in
from auterity_dagster.relaycore.shadow_traffic import Served, ShadowTraffic


class Ruled(Asking, Served, Protocol):
    """A request on its way, with what it is routed by."""


@dataclass(frozen=True, slots=True)
class RuleTraffic:
    """The cache and the shadow calls of one process."""

    cache: AnswerCache
    shadows: ShadowTraffic
    allowances: Allowances

    async def may_explore(self, ruled: Served) -> bool:
        """Return whether the rule's allowance for trying other deployments is in force; its room is the ledger's."""
        return await self.allowances.ensure(ruled.request.caller.organization_id, exploration_allowance(ruled))

    async def whole(self, ruled: Ruled, ask: AskWhole) -> tuple[Answer, ProviderAnswer]:
        """Return the kept answer, or ask; copy what was asked."""
        has_cache = ruled.route.decision.cache.mode != "off"
        answer, given = await (self.cache.whole(ruled, ask) if has_cache else ask())
        attempt = answer.attempt
        if isinstance(attempt, Attempt) and self.shadows.is_wanted(ruled):
            self.shadows.follow(ruled, attempt, said=lambda: said_in(given.body, ruled.request.wire))
        return answer, given

    async def stream(self, ruled: Ruled, ask: AskStream) -> tuple[Answer, AnswerStream]:
        """The same for a stream, which is copied once it has ended."""
        has_cache = ruled.route.decision.cache.mode != "off"
        answer, stream = await (self.cache.stream(ruled, ask) if has_cache else ask())
        attempt = answer.attempt
        if not isinstance(attempt, Attempt) or not self.shadows.is_wanted(ruled):
            return answer, stream

        async def ended(frames: tuple[StreamFrame, ...]) -> None:
            self.shadows.follow(ruled, attempt, said=lambda: said_by_frames(frames, ruled.request.wire))

        return answer, RecordedStream(stream, ended)


def exploration_allowance(ruled: Served) -> Allowance:
    """Return what the rule may spend a day on trying other deployments."""
    decision = ruled.route.decision
    cap_nusd = decision.exploration.max_usd_per_day if decision.exploration is not None else 0
    rule = decision.exploration_rule or decision.rule
    return Allowance("exploration", rule, cap_nusd, ruled.steering.policy.defaults.time_zone)
