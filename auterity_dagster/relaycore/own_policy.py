"""An organization's own steering policy, as it is checked before anybody stores it or puts it in force."""

from collections.abc import Mapping

from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_catalog import foreign_credentials
from auterity_dagster.relaycore.steering_file import parse_policy
from auterity_dagster.relaycore.steering_policy import SteeringPolicy
from auterity_dagster.relaycore.strict_yaml import Mistake, refused


def checked_own_policy(
    text: str, *, source: str, version: int | None, prices: Mapping[str, Price], platform: SteeringPolicy
) -> SteeringPolicy:
    """Return the policy. Raises `ConfigurationInvalid` as for a file, and for credentials that are not its to use."""
    policy = parse_policy(text, source=source, prices=prices, version=version)
    foreign = foreign_credentials(policy, platform)
    if foreign:
        raise refused(source, *(Mistake(f"deployments.{name}.credential", why) for name, why in foreign.items()))
    return policy
