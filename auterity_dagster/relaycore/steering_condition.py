"""The `when` of a steering rule: a small tree over named facts, with no code in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Fact = str | int | bool
Facts = Mapping[str, Fact]

FIELDS = frozenset(
    {
        "request.model",
        "request.has_tools",
        "request.has_images",
        "request.needs_json",
        "request.stream",
        "features.task",
        "features.prompt_tokens",
        "principal.organization_id",
        "principal.dealership_id",
        "principal.key_id",
        "principal.purpose",
    }
)

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda fact, value: fact == value,
    "ne": lambda fact, value: fact != value,
    "in": lambda fact, value: fact in value,
    "lt": lambda fact, value: fact < value,
    "lte": lambda fact, value: fact <= value,
    "gt": lambda fact, value: fact > value,
    "gte": lambda fact, value: fact >= value,
    "prefix": lambda fact, value: str(fact).startswith(value),
    "exists": lambda fact, value: value,
}
_VALUE_TYPES: Mapping[str, tuple[type, ...]] = {
    "in": (list,),
    "lt": (int,),
    "lte": (int,),
    "gt": (int,),
    "gte": (int,),
    "prefix": (str,),
    "exists": (bool,),
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison; a missing fact makes it false, but for `exists: false`."""

    field: str
    operator: str
    value: object

    def holds(self, facts: Facts) -> bool:
        fact = facts.get(self.field)
        if self.operator == "exists":
            return (fact is not None) == self.value
        if fact is None or (self.operator in ("lt", "lte", "gt", "gte") and not isinstance(fact, int)):
            return False
        return _OPERATORS[self.operator](fact, self.value)


@dataclass(frozen=True, slots=True)
class Group:
    """`all`, `any` or `not` over other conditions; `always` is `all` over none."""

    kind: Literal["all", "any", "not"]
    members: tuple["Condition", ...]

    def holds(self, facts: Facts) -> bool:
        if self.kind == "not":
            return not self.members[0].holds(facts)
        results = (member.holds(facts) for member in self.members)
        return all(results) if self.kind == "all" else any(results)


Condition = Leaf | Group

ALWAYS = Group("all", ())


def parse_condition(raw: object) -> Condition:
    """Read a `when`. Raises `ValueError` naming the unknown field or operator, or the wrong type."""
    if raw == "always":
        return ALWAYS
    if not isinstance(raw, dict) or len(cast(dict[object, object], raw)) != 1:
        raise ValueError(f"a condition is `always` or has exactly one key, not {raw!r}")
    [(key, value)] = cast(dict[object, object], raw).items()
    if key == "not":
        return Group("not", (parse_condition(value),))
    if key in ("all", "any"):
        if not isinstance(value, list) or not value:
            raise ValueError(f"`{key}` takes a list of conditions that is not empty")
        return Group("all" if key == "all" else "any", tuple(parse_condition(one) for one in cast(list[object], value)))
    if key not in FIELDS:
        raise ValueError(f"unknown field {key!r}; known: {', '.join(sorted(FIELDS))}")
    return _leaf(str(key), value)


def check_facts(raw: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """Return the facts of an embedded test unchanged. Raises `ValueError` for an unknown field."""
    if unknown := sorted(raw.keys() - FIELDS):
        raise ValueError(f"unknown field {unknown[0]!r}")
    return raw


def _leaf(name: str, raw: object) -> Leaf:
    if not isinstance(raw, dict) or len(cast(dict[object, object], raw)) != 1:
        raise ValueError(f"{name} takes exactly one operator, such as {{eq: …}}, not {raw!r}")
    [(operator, value)] = cast(dict[object, object], raw).items()
    if operator not in _OPERATORS:
        raise ValueError(f"{name}: unknown operator {operator!r}; known: {', '.join(sorted(_OPERATORS))}")
    expected = _VALUE_TYPES.get(str(operator), (str, int, bool))
    is_number_wanted = expected == (int,)
    if not isinstance(value, expected) or (is_number_wanted and isinstance(value, bool)):
        raise ValueError(f"{name}: `{operator}` does not take {value!r}")
    return Leaf(name, str(operator), value)
