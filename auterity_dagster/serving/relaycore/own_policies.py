"""Organizations' own steering policies: each version is read once; the last good one serves while one is refused."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from auterity_dagster.errors import ConfigurationInvalid, Unavailable
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_file import parse_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.serving.relaycore.policy_refusals import tell_refusal
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.steering_policies import PolicyVersion, policy_text

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class OwnPolicies:
    """What each organization's active version says.

    A version that cannot be read is counted, written into its reports and audited. It is tried again when prices
    change, for a missing one may be its only mistake.
    """

    database: Database
    load_failures: int = 0
    _good: dict[UUID, SteeringPolicy] = field(default_factory=dict[UUID, SteeringPolicy])
    _refused: dict[UUID, tuple[PolicyVersion, frozenset[str]]] = field(
        default_factory=dict[UUID, tuple[PolicyVersion, frozenset[str]]]
    )

    async def in_force(
        self, organization_id: UUID, active: PolicyVersion | None, *, prices: Mapping[str, Price]
    ) -> SteeringPolicy | None:
        """Return the organization's own policy, or None where the platform's steers it.

        Raises `Unavailable` where its version is refused and this process has no earlier one: nobody else's rules
        stand in for an organization's own.
        """
        if active is None:
            self._good.pop(organization_id, None)
            self._refused.pop(organization_id, None)
            return None
        good = self._good.get(organization_id)
        if good is not None and (good.name, good.version, good.digest) == (active.name, active.version, active.digest):
            return good
        attempt = (active, frozenset(prices))
        if self._refused.get(organization_id) != attempt:
            try:
                good = await self._load(organization_id, active, prices)
            except ConfigurationInvalid as error:
                self._refused[organization_id] = attempt
                self.load_failures += 1
                _log.error("own_policy_refused", organization=str(organization_id), reason=error.message)
                await tell_refusal(self.database, organization_id, active, error)
        if good is None:
            message = f"This gateway refuses the steering policy {active.name}@{active.version}; its reports say why."
            raise Unavailable(message, code="policy_refused", retry_after_s=10)
        return good

    async def _load(self, organization_id: UUID, active: PolicyVersion, prices: Mapping[str, Price]) -> SteeringPolicy:
        async with self.database.begin(organization_id) as session:
            text = await policy_text(session, active)
        source = f"{active.name}@{active.version}"
        # In a thread: a large policy takes a second to parse, and answers must not wait for it.
        policy = await asyncio.to_thread(parse_policy, text, source=source, prices=prices, version=active.version)
        self._good[organization_id] = policy
        self._refused.pop(organization_id, None)
        _log.info("own_policy_loaded", organization=str(organization_id), policy=source, digest=policy.digest)
        return policy
