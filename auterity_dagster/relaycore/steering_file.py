"""Read `config/steering.yaml`: strict parsing, references, prices, then the policy's own tests."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_policy import PolicyTest, SteeringPolicy
from auterity_dagster.relaycore.steering_rules import decide


def load_policy(path: Path, *, prices: Mapping[str, Price]) -> SteeringPolicy:
    """Return the policy, its digest set.

    Raises `ConfigurationInvalid` with one line a mistake, each naming the file and the field; also when a deployment
    has no price in force, or when a test that stands in the file does not hold.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: {error.strerror}") from error
    return parse_policy(text, source=str(path), prices=prices)


def parse_policy(text: str, *, source: str, prices: Mapping[str, Price]) -> SteeringPolicy:
    """The same from a text; `source` is what messages call it."""
    try:
        written: object = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
        policy = SteeringPolicy.model_validate(written)
    except YAMLError as error:
        raise ConfigurationInvalid(f"{source}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigurationInvalid("\n".join(_mistakes(source, error))) from error
    unpriced = [one for one in policy.deployments if one.price not in prices]
    if unpriced:
        raise ConfigurationInvalid(
            f"{source}: deployments.{unpriced[0].id}.price: no price is in force for {unpriced[0].price!r}"
        )
    for test in policy.tests:
        if mistake := _broken(policy, test):
            raise ConfigurationInvalid(f"{source}: tests: {test.name!r} does not hold: {mistake}")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return policy.model_copy(update={"digest": digest})


def _mistakes(source: str, error: ValidationError) -> list[str]:
    return [
        f"{source}: {'.'.join(str(part) for part in one['loc'])}: {one['msg'].removeprefix('Value error, ')}".replace(
            ": : ", ": "
        )
        for one in error.errors(include_url=False)
    ]


def _broken(policy: SteeringPolicy, test: PolicyTest) -> str | None:
    """What a test's expectation and the decision differ in, or None."""
    decision, expected = decide(policy, test.given), test.expect
    if expected.rule not in (None, decision.rule):
        return f"rule {decision.rule!r} decides, {expected.rule!r} is expected"
    if expected.objective not in (None, decision.objective):
        return f"the objective is {decision.objective!r}, {expected.objective!r} is expected"
    if expected.deployments_within is not None:
        by_id = {one.id: one.deployment() for one in policy.deployments}
        admitted = [one for one in decision.members if one not in by_id or decision.admits(by_id[one])]
        if stray := [one for one in admitted if one not in expected.deployments_within]:
            return f"{stray[0]!r} may answer, only {list(expected.deployments_within)} are expected"
    return None
