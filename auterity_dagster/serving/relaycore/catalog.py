"""What routing knows just now: the policy and prices from files, each organization's models from PostgreSQL."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.errors import ConfigurationInvalid, NotPermitted, PriceUnknown, Unavailable
from auterity_dagster.relaycore.catalog import CatalogSnapshot, Deployment, served_deployment
from auterity_dagster.relaycore.price_list import PriceList, load_prices
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.quality import Quality, QualityEvidence, posterior
from auterity_dagster.relaycore.rate_limit import RateLimit
from auterity_dagster.relaycore.steering_file import load_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.serving.relaycore.providers import ConfiguredProviders
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.organizations import dealerships
from auterity_dagster.storage.repositories.routing import RoutingState, routing_state

REFRESH_S = 2.0
REFUSED_PAUSE_S = 60.0
LEASE_S = 10.0
"""How long the model server counts as there after it last answered: loading a model may delay a probe."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    """One organization's part, as last read."""

    read_at_s: float
    state: RoutingState
    dealership_ids: frozenset[UUID]


@dataclass(slots=True)
class _Files:
    """The two files, as last found good."""

    policy: SteeringPolicy
    prices: PriceList
    stamps: tuple[int, ...]


@dataclass(slots=True)
class RefreshingCatalog:
    """Reads an organization's rows again after two seconds; while PostgreSQL is away the last ones stay in use."""

    database: Database
    providers: ConfiguredProviders
    config_dir: Path
    _files: _Files = field(init=False)
    _known: dict[UUID, _Known] = field(default_factory=dict[UUID, _Known])
    _locks: defaultdict[UUID, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _refused_until_s: dict[str, float] = field(default_factory=dict[str, float])
    _unknown_until_s: dict[str, float] = field(default_factory=dict[str, float])
    _model_server_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._files = self._read_files()

    def policy(self) -> SteeringPolicy:
        return self._files.policy

    async def snapshot(self, organization_id: UUID) -> CatalogSnapshot:
        known = await self._organization(organization_id, max_age_s=REFRESH_S)
        deployments = {one.id: one.deployment() for one in self._files.policy.deployments}
        unavailable: dict[str, str] = {}
        for candidate in known.state.served:
            deployment = served_deployment(candidate.served)
            deployments[deployment.id] = deployment
            if not candidate.has_passing_verdict:
                unavailable[deployment.id] = "gate: no verdict in force says PASS for its digest"
            elif time.monotonic() > self._model_server_until_s:
                unavailable[deployment.id] = "lease: the model server does not answer"
        for deployment in deployments.values():
            if reason := self._refusal(deployment):
                unavailable.setdefault(deployment.id, reason)
        return CatalogSnapshot(
            deployments=deployments,
            quality=_quality(known.state.evidence),
            prices=_in_force(self._files.prices),
            unavailable=unavailable,
        )

    async def require_dealership(self, organization_id: UUID, dealership_id: UUID) -> None:
        """Raise `NotPermitted` unless the organization has this dealership; a new one is found at once."""
        for max_age_s in (REFRESH_S, 0.0):
            known = await self._organization(organization_id, max_age_s=max_age_s)
            if dealership_id in known.dealership_ids:
                return
        raise NotPermitted("There is no such dealership, or the key may not act for it.", field="x-auterity-dealership")

    async def rate_limits(self, organization_id: UUID) -> Mapping[UUID, RateLimit]:
        """Return an organization's limits by what they limit. Raises `Unavailable` where nothing was ever read."""
        return (await self._organization(organization_id, max_age_s=REFRESH_S)).state.limits

    def refuse_credential(self, deployment: Deployment) -> None:
        self._refused_until_s[deployment.credential or ""] = time.monotonic() + REFUSED_PAUSE_S
        _log.error("credential_refused", deployment=deployment.id, credential=deployment.credential)

    def refuse_deployment(self, deployment: Deployment) -> None:
        self._unknown_until_s[deployment.id] = time.monotonic() + REFUSED_PAUSE_S
        _log.error("model_unknown", deployment=deployment.id, model=deployment.model)

    async def watch(self) -> None:
        """Look at the files and the model server for ever; a file with a mistake is reported and not used."""
        while True:
            self._reload_changed_files()
            if await self.providers.model_server_answers():
                self._model_server_until_s = time.monotonic() + LEASE_S
            await asyncio.sleep(REFRESH_S)

    def _reload_changed_files(self) -> None:
        stamps = _stamps(self._paths())
        if stamps == self._files.stamps:
            return
        try:
            self._files = self._read_files()
        except ConfigurationInvalid as error:
            self._files.stamps = stamps
            _log.error("policy_refused", reason=error.message, in_force=self._files.policy.digest)
        else:
            _log.info("policy_loaded", digest=self._files.policy.digest)

    def _read_files(self) -> _Files:
        steering, prices_path = self._paths()
        stamps = _stamps((steering, prices_path))
        prices = load_prices(prices_path)
        return _Files(load_policy(steering, prices=_in_force(prices)), prices, stamps)

    def _paths(self) -> tuple[Path, Path]:
        return self.config_dir / "steering.yaml", self.config_dir / "prices.yaml"

    def _refusal(self, deployment: Deployment) -> str | None:
        now_s = time.monotonic()
        if self._unknown_until_s.get(deployment.id, 0) > now_s:
            return "model: its provider does not know it; tried again within a minute"
        if self._refused_until_s.get(deployment.credential or "", 0) > now_s:
            return "credential: its provider turned it down; tried again within a minute"
        return self.providers.missing_credential(deployment)

    async def _organization(self, organization_id: UUID, *, max_age_s: float) -> _Known:
        known = self._known.get(organization_id)
        asked_s = time.monotonic()
        if known is not None and asked_s - known.read_at_s < max_age_s:
            return known
        async with self._locks[organization_id]:
            known = self._known.get(organization_id)
            if known is not None and known.read_at_s >= asked_s:  # read while this call waited for the lock
                return known
            try:
                async with self.database.begin(organization_id) as session:
                    state = await routing_state(session)
                    ids = frozenset(one.id for one in await dealerships(session))
            except (DBAPIError, PoolTimeout) as error:
                if known is None:
                    raise Unavailable(
                        "The routing catalogue cannot be read.", code="catalog_unavailable", retry_after_s=1
                    ) from error
                _log.warning("catalogue_kept", reason=type(error).__name__)
                known.read_at_s = time.monotonic()
                return known
            self._known[organization_id] = known = _Known(time.monotonic(), state, ids)
            return known


def _quality(evidence: tuple[QualityEvidence, ...]) -> Mapping[tuple[str, str], Quality]:
    by_artefact: dict[tuple[str, str], list[QualityEvidence]] = defaultdict(list)
    for one in evidence:
        by_artefact[(one.task, one.artefact_digest)].append(one)
    now = datetime.now(UTC)
    return {key: posterior(group, now=now) for key, group in by_artefact.items()}


def _in_force(listed: PriceList) -> Mapping[str, Price]:
    now, found = datetime.now(UTC), dict[str, Price]()
    for key in listed.prices:
        try:
            found[key] = listed.in_force(key, now)
        except PriceUnknown:
            continue  # an entry that begins later
    return found


def _stamps(paths: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
