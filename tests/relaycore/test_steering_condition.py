"""Conditions: every operator on every kind of field, and one clear message for each thing that is wrong."""

from typing import Any

import pytest

from auterity_dagster.relaycore.steering_condition import check_facts, compiled, parse_condition

FACTS = check_facts(
    {
        "features.task": "lead_reply",
        "features.prompt_tokens": 800,
        "request.stream": True,
        "budget.used_ratio": 0.91,
        "guardrail.pii": ["ssn", "phone"],
        "metadata.data_class": "restricted",
        "time.weekday": "sat",
    }
)


def holds(when: Any) -> bool:
    return compiled(parse_condition(when))(FACTS)


@pytest.mark.parametrize(
    "when",
    [
        "always",
        {"features.task": {"eq": "lead_reply"}},
        {"features.task": {"ne": "chat"}},
        {"features.task": {"in": ["chat", "lead_reply"]}},
        {"features.task": {"prefix": "lead"}},
        {"features.task": {"contains": "_re"}},
        {"features.task": {"exists": True}},
        {"features.language": {"exists": False}},
        {"features.prompt_tokens": {"lt": 801}},
        {"features.prompt_tokens": {"lte": 800}},
        {"features.prompt_tokens": {"gt": 799}},
        {"features.prompt_tokens": {"gte": 800}},
        {"features.prompt_tokens": {"in": [800]}},
        {"budget.used_ratio": {"gte": 0.9}},
        {"request.stream": {"eq": True}},
        {"guardrail.pii": {"in": ["ssn", "credit"]}},
        {"guardrail.pii": {"contains": "phone"}},
        {"guardrail.pii": {"eq": "phone"}},
        {"guardrail.pii": {"ne": "credit"}},
        {"guardrail.pii": {"prefix": "ss"}},
        {"metadata.data_class": {"eq": "restricted"}},
        {"time.weekday": {"in": ["sat", "sun"]}},
        {"not": {"features.task": {"eq": "chat"}}},
        {"any": [{"features.task": {"eq": "chat"}}, {"request.stream": {"eq": True}}]},
        {"all": [{"features.task": {"eq": "lead_reply"}}, {"request.stream": {"eq": True}}]},
        {"all": [{"features.task": {"eq": "lead_reply"}}] * 3},
    ],
)
def test_a_condition_holds(when: Any) -> None:
    assert holds(when)


@pytest.mark.parametrize(
    "when",
    [
        {"features.task": {"eq": "chat"}},
        {"features.prompt_tokens": {"lt": 800}},
        {"features.prompt_tokens": {"gt": 800}},
        {"guardrail.pii": {"ne": "ssn"}},
        {"guardrail.pii": {"in": ["credit"]}},
        {"all": [{"features.task": {"eq": "lead_reply"}}, {"request.stream": {"eq": False}}]},
        {"any": [{"features.task": {"eq": "chat"}}]},
        {"not": "always"},
    ],
)
def test_a_condition_does_not_hold(when: Any) -> None:
    assert not holds(when)


@pytest.mark.parametrize("operator", ["eq", "ne", "in", "contains", "prefix"])
def test_a_missing_fact_makes_its_leaf_false(operator: str) -> None:
    assert not holds({"features.language": {operator: ["en"] if operator == "in" else "en"}})
    assert not holds({"metadata.region": {operator: ["en"] if operator == "in" else "en"}})


@pytest.mark.parametrize("operator", ["lt", "lte", "gt", "gte"])
def test_a_missing_number_is_neither_above_nor_below(operator: str) -> None:
    assert not holds({"time.hour": {operator: 12}})


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"features.tusk": {"eq": "x"}}, "unknown field 'features.tusk'"),
        ({"metadata.Data Class": {"eq": "x"}}, "unknown field"),
        ({"features.task": {"like": "x"}}, "unknown operator 'like'"),
        ({"features.task": {"lt": "x"}}, "`lt` does not go with what this field holds"),
        ({"features.prompt_tokens": {"eq": "many"}}, "`eq` does not take 'many'"),
        ({"features.prompt_tokens": {"lt": True}}, "`lt` does not take True"),
        ({"request.stream": {"eq": "yes"}}, "`eq` does not take 'yes'"),
        ({"features.task": {"in": "chat"}}, "`in` does not take 'chat'"),
        ({"features.task": {"in": []}}, "`in` does not take []"),
        ({"features.task": {"exists": "yes"}}, "`exists` does not take 'yes'"),
        ({"features.task": "chat"}, "takes exactly one operator"),
        ({"features.task": {"eq": "a", "ne": "b"}}, "takes exactly one operator"),
        ({"all": []}, "is not empty"),
        ({}, "exactly one key"),
        ("sometimes", "exactly one key"),
    ],
)
def test_a_mistake_is_named(when: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_condition(when)

    assert message in str(refused.value)


@pytest.mark.parametrize("given", [{"features.prompt_tokens": "many"}, {"features.task": ["a"]}, {"x": 1}, ["x"]])
def test_a_tests_facts_are_checked_like_conditions(given: Any) -> None:
    with pytest.raises(ValueError):
        check_facts(given)
