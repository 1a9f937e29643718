"""Read a steering policy: strict parsing, references, prices, then the policy's own tests."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_policy import PolicyTest, SourceText, SteeringPolicy
from auterity_dagster.relaycore.steering_rules import decide
from auterity_dagster.relaycore.strict_yaml import Mistake, mistakes_of, read_yaml, refused


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


def parse_policy(text: str, *, source: str, prices: Mapping[str, Price], version: int | None = None) -> SteeringPolicy:
    """The same from a text; `source` is what messages call it, `version` an organization's own policy's."""
    policy = read_policy(text, source=source, version=version)
    mistakes = [
        Mistake(f"deployments.{one.id}.price", f"no price is in force for {one.price!r}")
        for one in policy.deployments
        if one.price not in prices
    ]
    mistakes += [
        Mistake("tests", f"{test.name!r} does not hold: {why}")
        for test in policy.tests
        if (why := _broken(policy, test))
    ]
    if mistakes:
        raise refused(source, *mistakes)
    return policy


def read_policy(text: str, *, source: str, version: int | None = None) -> SteeringPolicy:
    """Read a policy that was accepted before: its structure and references, without prices and tests."""
    written = read_yaml(text, source=source)
    try:
        return SteeringPolicy.model_validate(written, context=SourceText(text, policy_digest(text), version))
    except ValidationError as error:
        raise refused(source, *mistakes_of(error)) from error
    except RecursionError as error:
        raise refused(source, Mistake("", "the document is nested too deeply")) from error


def policy_digest(text: str) -> str:
    """Return the digest under which a policy's text is known."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
