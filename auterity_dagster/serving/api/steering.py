"""What steers an organization, as the API sees it: the platform's files, its own prices, its own policy's version."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from auterity_dagster.errors import ConfigurationInvalid, Invalid, Unavailable
from auterity_dagster.relaycore.own_policy import checked_own_policy
from auterity_dagster.relaycore.price_list import PriceList, load_prices
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_file import load_policy, read_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.relaycore.strict_yaml import told_mistakes
from auterity_dagster.serving.api.state import ApiState
from auterity_dagster.storage.repositories.prices import own_prices
from auterity_dagster.storage.repositories.steering_policies import active_version, policy_text


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform's policy, and the price list with the organization's own entries: those in force today, by key."""

    policy: SteeringPolicy
    prices: Mapping[str, Price]

    async def checked(self, text: str, *, source: str, version: int | None = None) -> SteeringPolicy:
        """Return an organization's own policy from its text. Raises `Invalid` with `details["mistakes"]`."""
        try:
            # In a thread: a large policy takes a second to parse, and other requests must not wait for it.
            return await asyncio.to_thread(
                checked_own_policy, text, source=source, version=version, prices=self.prices, platform=self.policy
            )
        except ConfigurationInvalid as error:
            raise refusal(error, what="policy") from error


async def platform(state: ApiState, organization_id: UUID) -> Platform:
    """Read what the gateways read. Raises `Unavailable` while one of the files has a mistake."""
    listed = await price_list(state, organization_id)
    prices = listed.all_in_force(state.clock.now())
    return Platform(await asyncio.to_thread(_read, state, prices), prices)


async def price_list(state: ApiState, organization_id: UUID) -> PriceList:
    """Return the common price list with the organization's own entries in it. Raises `Unavailable`."""
    common = await asyncio.to_thread(_read_prices, state)
    async with state.database.begin(organization_id) as session:
        return common.with_own(await own_prices(session))


async def policy_in_force(session: AsyncSession, of_platform: Platform) -> SteeringPolicy:
    """Return the organization's own active policy, or the platform's."""
    active = await active_version(session)
    if active is None:
        return of_platform.policy
    text = await policy_text(session, active)
    return await asyncio.to_thread(read_policy, text, source=f"{active.name}@{active.version}", version=active.version)


def refusal(error: ConfigurationInvalid, *, what: str) -> Invalid:
    """Return a caller's text's mistakes as the caller's error."""
    mistakes = told_mistakes(error)
    message = f"Refused: {mistakes[0]['path']}: {mistakes[0]['reason']}"
    return Invalid(message, code=f"{what}_invalid", field="yaml", mistakes=mistakes)


def _read(state: ApiState, prices: Mapping[str, Price]) -> SteeringPolicy:
    try:
        return load_policy(state.settings.config_dir / "steering.yaml", prices=prices)
    except ConfigurationInvalid as error:
        raise _away("policy") from error


def _read_prices(state: ApiState) -> PriceList:
    try:
        return load_prices(state.settings.config_dir / "prices.yaml")
    except ConfigurationInvalid as error:
        raise _away("price list") from error


def _away(what: str) -> Unavailable:
    message = f"The platform's {what} has a mistake; the gateways keep the last good one."
    return Unavailable(message, code="platform_configuration_refused", retry_after_s=10)
