"""The JSON Schema that editors read says what loading a policy enforces, as far as a schema can."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from auterity_dagster.relaycore.steering_schema import schema_text
from auterity_dagster.relaycore.strict_yaml import read_yaml
from tests.fakes.policy_mistakes import MISTAKES, SHIPPED

COMMITTED = Path(__file__).parents[2] / "config" / "schemas" / "steering.json"
OF_FORM = (
    "unknown key",
    "unknown field",
    "unknown operator",
    "wrong type",
    "credential in the clear",
    "served without alias",
    "money that is no quoted decimal",
)
"""What can be seen without looking elsewhere in the policy."""


def as_json(text: str) -> Any:
    return json.loads(json.dumps(read_yaml(text, source="policy")))


def test_the_committed_schema_is_the_one_the_code_makes() -> None:
    command = "python -c 'from auterity_dagster.relaycore.steering_schema import schema_text; …'"

    assert COMMITTED.read_text() == schema_text(), command


def test_the_shipped_policy_fits_it() -> None:
    validator = Draft202012Validator(json.loads(COMMITTED.read_text()))

    assert [error.message for error in validator.iter_errors(as_json(SHIPPED))] == []


@pytest.mark.parametrize("kind", OF_FORM)
def test_it_refuses_the_same_mistakes_of_form(kind: str) -> None:
    validator = Draft202012Validator(json.loads(COMMITTED.read_text()))

    assert not validator.is_valid(as_json(MISTAKES[kind].text))
