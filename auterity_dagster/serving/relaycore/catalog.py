"""What routing knows just now: the platform's files, and what PostgreSQL holds of each organization."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.errors import NotPermitted, Unavailable
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment, registered_id, served_deployment
from auterity_dagster.relaycore.decision_record import with_digest
from auterity_dagster.relaycore.ports import Steering
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.quality import Quality, QualityEvidence, posterior
from auterity_dagster.relaycore.rate_limit import RateLimit
from auterity_dagster.relaycore.steering_catalog import foreign_credentials, narrowed, routable
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.serving.relaycore.own_policies import OwnPolicies
from auterity_dagster.serving.relaycore.platform_files import PlatformFiles
from auterity_dagster.serving.relaycore.policy_refusals import tell_refusal
from auterity_dagster.serving.relaycore.predictors import LoadedPredictors
from auterity_dagster.serving.relaycore.providers import ConfiguredProviders
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.organizations import dealerships
from auterity_dagster.storage.repositories.routing import RoutingState, routing_state
from auterity_dagster.storage.steering_changes import UNHEARD, steering_changes

REFRESH_S = 2.0
MAX_AGE_S = 6.0
"""Rows older than this are read again before the caller is answered: the watch has not kept them fresh."""
KEPT_FRESH_S = 60.0
FORGOTTEN_AFTER_S = 3600.0
REFUSED_PAUSE_S = 60.0
LEASE_S = 10.0
"""How long the model server counts as there after it last answered: loading a model may delay a probe."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    """One organization's part, as last read, and what was built of it.

    `policy` is its own, None where it has none, and an error where that is refused and there is no earlier one.
    """

    read_at_s: float
    used_at_s: float
    state: RoutingState
    dealership_ids: frozenset[UUID]
    policy: SteeringPolicy | Unavailable | None
    steering: Steering | Unavailable


@dataclass(slots=True)
class RefreshingCatalog:
    """Keeps one immutable `Steering` an organization and builds it anew when something changed, off the callers' path.

    Organizations that were asked for lately are read again when PostgreSQL tells of a change, and every two seconds;
    while it is away the last rows stay in use. A policy with a mistake is counted and audited; the last good one stays.
    """

    database: Database
    providers: ConfiguredProviders
    config_dir: Path
    predictors: LoadedPredictors
    _files: PlatformFiles = field(init=False)
    _own: OwnPolicies = field(init=False)
    _known: dict[UUID, _Known] = field(default_factory=dict[UUID, _Known])
    _locks: defaultdict[UUID, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _refused_until_s: dict[str, float] = field(default_factory=dict[str, float])
    _unknown_until_s: dict[str, float] = field(default_factory=dict[str, float])
    _model_server_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._files = PlatformFiles(self.config_dir)
        self._own = OwnPolicies(self.database)

    @property
    def load_failures(self) -> int:
        """How often a policy or price list was refused in this process."""
        return self._files.load_failures + self._own.load_failures

    def platform_policy(self) -> SteeringPolicy:
        """Return the policy of the file, for organizations that have none of their own."""
        return self._files.good.policy

    async def steering(self, organization_id: UUID) -> Steering:
        steering = (await self._organization(organization_id, max_age_s=MAX_AGE_S)).steering
        if isinstance(steering, Unavailable):
            raise steering.with_traceback(None)
        return steering

    async def require_dealership(self, organization_id: UUID, dealership_id: UUID) -> None:
        """Raise `NotPermitted` unless the organization has this dealership; a new one is found at once."""
        for max_age_s in (MAX_AGE_S, 0.0):
            known = await self._organization(organization_id, max_age_s=max_age_s)
            if dealership_id in known.dealership_ids:
                return
        raise NotPermitted("There is no such dealership, or the key may not act for it.", field="x-auterity-dealership")

    async def rate_limits(self, organization_id: UUID) -> Mapping[UUID, RateLimit]:
        """Return an organization's limits by what they limit. Raises `Unavailable` where nothing was ever read."""
        return (await self._organization(organization_id, max_age_s=MAX_AGE_S)).state.limits

    def refuse_credential(self, deployment: Deployment) -> None:
        self._refused_until_s[deployment.credential or ""] = time.monotonic() + REFUSED_PAUSE_S
        _log.error("credential_refused", deployment=deployment.id, credential=deployment.credential)
        self._rebuild()

    def refuse_deployment(self, deployment: Deployment) -> None:
        self._unknown_until_s[deployment.id] = time.monotonic() + REFUSED_PAUSE_S
        _log.error("model_unknown", deployment=deployment.id, model=deployment.model)
        self._rebuild()

    async def watch(self) -> None:
        """Look at the files, the model server and the organizations' rows for ever."""
        while True:
            await self._reload_changed_files()
            if await self.providers.model_server_answers():
                self._model_server_until_s = time.monotonic() + LEASE_S
            await self._refresh_used()
            if await self.predictors.load_wanted():
                self._rebuild()
            await asyncio.sleep(REFRESH_S)

    async def listen(self, url: str) -> None:
        """Read an organization again as soon as PostgreSQL tells of a change; what goes unheard the watch finds."""
        while True:
            try:
                async with aclosing(steering_changes(url)) as changes:
                    async for organization_id in changes:
                        if organization_id in self._known:
                            await self._read_in_turn(organization_id)
            except UNHEARD as error:
                _log.warning("steering_changes_unheard", reason=type(error).__name__)
            await asyncio.sleep(REFRESH_S)

    def _rebuild(self) -> None:
        for known in self._known.values():
            known.steering = self._built(known.state, known.policy, before=known.steering)

    async def _refresh_used(self) -> None:
        now_s = time.monotonic()
        for organization_id, known in tuple(self._known.items()):
            idle_s = now_s - known.used_at_s
            if idle_s > FORGOTTEN_AFTER_S:
                del self._known[organization_id]
            elif idle_s <= KEPT_FRESH_S:
                await self._read_in_turn(organization_id)

    async def _reload_changed_files(self) -> None:
        refusal = await self._files.reload_changed()
        if refusal is not None:
            for organization_id, known in tuple(self._known.items()):
                if known.policy is None:
                    await tell_refusal(self.database, organization_id, None, refusal)

    async def _organization(self, organization_id: UUID, *, max_age_s: float) -> _Known:
        known = self._known.get(organization_id)
        asked_s = time.monotonic()
        if known is None or asked_s - known.read_at_s >= max_age_s:
            async with self._locks[organization_id]:
                known = self._known.get(organization_id)
                if known is None or known.read_at_s < asked_s:  # else it was read while this call waited for the lock
                    known = await self._read(organization_id)
        known.used_at_s = asked_s
        return known

    async def _read_in_turn(self, organization_id: UUID) -> None:
        async with self._locks[organization_id]:
            await self._read(organization_id)

    async def _read(self, organization_id: UUID) -> _Known:
        """Read an organization's rows and build what they say; the last rows stay while PostgreSQL is away."""
        known, now_s = self._known.get(organization_id), time.monotonic()
        try:
            async with self.database.begin(organization_id) as session:
                state = await routing_state(session)
                ids = frozenset(one.id for one in await dealerships(session))
            policy = await self._own_policy(organization_id, state)
        except (DBAPIError, PoolTimeout) as error:
            if known is None:
                raise Unavailable(
                    "The routing catalogue cannot be read.", code="catalog_unavailable", retry_after_s=1
                ) from error
            _log.warning("catalogue_kept", reason=type(error).__name__)
            state, ids, policy = known.state, known.dealership_ids, known.policy
        steering = self._built(state, policy, before=known.steering if known else None)
        read = _Known(now_s, known.used_at_s if known else now_s, state, ids, policy, steering)
        self._known[organization_id] = read
        return read

    async def _own_policy(self, organization_id: UUID, state: RoutingState) -> SteeringPolicy | Unavailable | None:
        try:
            return await self._own.in_force(organization_id, state.active_policy, prices=self._prices(state))
        except Unavailable as refusal:
            return refusal

    def _built(
        self, state: RoutingState, own: SteeringPolicy | Unavailable | None, *, before: Steering | Unavailable | None
    ) -> Steering | Unavailable:
        """Return what the rows and files say together: the same object as before, unless something changed."""
        if isinstance(own, Unavailable):
            return own
        policy = own or self.platform_policy()
        registered = {one.id: one for one in (served_deployment(candidate.served) for candidate in state.served)}
        deployments, unavailable = routable(policy, registered, self._barred(state))
        deployments, off = narrowed(deployments, state.overrides)
        lacking = {one.id: why for one in deployments.values() if (why := self._refusal(one))}
        foreign = {} if own is None else foreign_credentials(own, self.platform_policy())
        snapshot = CatalogSnapshot(
            deployments=deployments,
            quality=_quality(state.evidence),
            prices=self._prices(state),
            unavailable={**lacking, **unavailable, **foreign, **off},
            digest=before.snapshot.digest if isinstance(before, Steering) else "",
        )
        predictors = self.predictors.active(policy.defaults.predictor, state.predictors)
        is_same = isinstance(before, Steering) and (before.snapshot, before.predictors) == (snapshot, predictors)
        if isinstance(before, Steering) and before.policy is policy and is_same:
            return before
        return Steering(policy, with_digest(snapshot), predictors)

    def _prices(self, state: RoutingState) -> Mapping[str, Price]:
        common = self._files.good.prices
        listed = common.with_own(state.own_prices) if state.own_prices else common
        return listed.all_in_force(datetime.now(UTC))

    def _barred(self, state: RoutingState) -> dict[str, str]:
        """Why published models cannot be called just now."""
        barred: dict[str, str] = {}
        for candidate in state.served:
            name = registered_id(candidate.served.deployment_id, candidate.served.alias)
            if not candidate.has_passing_verdict:
                barred[name] = "gate: no verdict in force says PASS for its digest"
            elif time.monotonic() > self._model_server_until_s:
                barred[name] = "lease: the model server does not answer"
        return barred

    def _refusal(self, deployment: Deployment) -> str | None:
        now_s = time.monotonic()
        if self._unknown_until_s.get(deployment.id, 0) > now_s:
            return "model: its provider does not know it; tried again within a minute"
        if self._refused_until_s.get(deployment.credential or "", 0) > now_s:
            return "credential: its provider turned it down; tried again within a minute"
        return self.providers.missing_credential(deployment)


def _quality(evidence: tuple[QualityEvidence, ...]) -> Mapping[tuple[str, str], Quality]:
    by_artefact: dict[tuple[str, str], list[QualityEvidence]] = defaultdict(list)
    for one in evidence:
        by_artefact[(one.task, one.artefact_digest)].append(one)
    # By the hour: evidence ages slowly, and what many requests share must not change with every look.
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return {key: posterior(group, now=now) for key, group in by_artefact.items()}
