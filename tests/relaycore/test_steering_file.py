"""The policy file is read strictly: each mistake is one clear message with the file and the field."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.pricing import Price
from auterity_dagster.relaycore.steering_file import load_policy, parse_policy

CONFIG = Path(__file__).parents[2] / "config"
TEXT = (CONFIG / "steering.yaml").read_text()


@pytest.fixture(scope="module")
def prices() -> dict[str, Price]:
    listed = load_prices(CONFIG / "prices.yaml")
    return {key: listed.in_force(key, datetime(2026, 11, 25, tzinfo=UTC)) for key in listed.prices}


def test_the_shipped_policy_is_valid_and_its_own_tests_hold(prices: dict[str, Price]) -> None:
    policy = load_policy(CONFIG / "steering.yaml", prices=prices)

    assert policy.tests
    assert len(policy.digest) == 16


@pytest.mark.parametrize(
    ("written", "mistake", "message"),
    [
        ("quality_lcb: 0.70", "quality_lcbb: 0.7", "objectives.balanced.subject_to.quality_lcbb: Extra inputs"),
        ('cost_usd: "0.20"', "cost_usd: 0.20", "cost_usd: money is a quoted decimal"),
        ("{eq: judging}", "{like: judging}", "unknown operator 'like'"),
        ("principal.purpose: {eq", "principal.purpos: {eq", "unknown field 'principal.purpos'"),
        ("pool: automotive", "pool: boats", "there is no 'boats'"),
        ("priority: 700", "priority: 500", "'500' stands there twice"),
        ("name: dealership-default", "name: a\nname: b", "found duplicate key"),
        ("name: dealership-default", "name: !!bool maybe", "does not fit the tag"),
        ("name: dealership-default", "name: !!int ", "does not fit the tag"),
        ("sandbox/small,", "sandbox/tiny,", "no price is in force for 'sandbox/tiny'"),
        ("when: always", "when: {features.task: {eq: x}}", "must be `when: always`"),
        ('"secret://sandbox_token"', "sk-in-the-clear", "credential"),
        ("schema_version: 2", "schema_version: 1", "schema_version"),
        ("when_budget_short: refuse", "when_budget_short: shrink", "when_budget_short"),
        ("  breaker:", "  cache: {mode: fuzzy}\n  breaker:", "defaults.cache.mode: Input should be 'off' or 'exact'"),
        ("expect: {rule: default,", "expect: {rule: dealership-tasks,", "'everything else' does not hold"),
        ("given: {features.task: chat}", "given: {features.tusk: chat}", "unknown field 'features.tusk'"),
    ],
)
def test_a_mistake_refuses_the_file_and_is_named(
    prices: dict[str, Price], written: str, mistake: str, message: str
) -> None:
    assert written in TEXT

    with pytest.raises(ConfigurationInvalid) as refused:
        parse_policy(TEXT.replace(written, mistake, 1), source="steering.yaml", prices=prices)

    assert message in refused.value.message
    assert refused.value.message.startswith("steering.yaml: ")


def test_a_missing_file_is_named(prices: dict[str, Price], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"absent\.yaml: No such file"):
        load_policy(tmp_path / "absent.yaml", prices=prices)
