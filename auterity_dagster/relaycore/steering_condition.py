"""The `when` of a steering rule: a small tree over named facts, with no code in it; compiled to closures at load."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Fact = str | int | float | bool | tuple[str, ...]
Facts = Mapping[str, Fact]
Test = Callable[[Facts], bool]
Kind = Literal["text", "number", "truth", "texts"]

FIELDS: Mapping[str, Kind] = {
    "request.model": "text",
    "request.has_tools": "truth",
    "request.has_images": "truth",
    "request.needs_json": "truth",
    "request.stream": "truth",
    "request.untrusted": "truth",
    "features.task": "text",
    "features.prompt_tokens": "number",
    "features.language": "text",
    "principal.organization_id": "text",
    "principal.dealership_id": "text",
    "principal.key_id": "text",
    "principal.user_id": "text",
    "principal.purpose": "text",
    "budget.used_ratio": "number",
    "guardrail.pii": "texts",
    "time.hour": "number",
    "time.weekday": "text",
}
METADATA = re.compile(r"metadata\.[a-z0-9_-]{1,40}")
"""A caller's own labels are fields too, always text."""

OPERATORS = ("eq", "ne", "in", "lt", "lte", "gt", "gte", "contains", "prefix", "exists")
OPERATORS_OF_KIND: Mapping[Kind, frozenset[str]] = {
    "text": frozenset({"eq", "ne", "in", "contains", "prefix", "exists"}),
    "number": frozenset({"eq", "ne", "in", "lt", "lte", "gt", "gte", "exists"}),
    "truth": frozenset({"eq", "ne", "exists"}),
    "texts": frozenset({"eq", "ne", "in", "contains", "prefix", "exists"}),
}
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison; a missing fact makes it false, but for `exists: false`.

    A fact with several texts (`guardrail.pii`) satisfies an operator if one of them does, and `ne` if all do.
    """

    field: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """`all`, `any` or `not` over other conditions; `always` is `all` over none."""

    kind: Literal["all", "any", "not"]
    members: tuple["Condition", ...]


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
    return _leaf(str(key), value)


def check_facts(raw: object) -> dict[str, Fact]:
    """Return the facts of an embedded test. Raises `ValueError` for an unknown field or a value of the wrong type."""
    if not isinstance(raw, dict):
        raise ValueError("`given` maps fields to values")
    facts: dict[str, Fact] = {}
    for name, value in cast(dict[object, object], raw).items():
        kind = kind_of(str(name))
        values = tuple(cast(list[object], value)) if isinstance(value, list) else (value,)
        if not all(_is(kind, one) for one in values) or (kind != "texts" and values != (value,)):
            raise ValueError(f"{name}: {value!r} is not what this field holds ({kind})")
        facts[str(name)] = cast(Fact, values if kind == "texts" else value)
    return facts


def kind_of(field: str) -> Kind:
    """Return what a field holds. Raises `ValueError` for an unknown one."""
    if METADATA.fullmatch(field):
        return "text"
    if field not in FIELDS:
        raise ValueError(f"unknown field {field!r}; known: {', '.join(sorted(FIELDS))}, metadata.*")
    return FIELDS[field]


def fields_of(condition: Condition) -> frozenset[str]:
    """Return every field that a condition asks about."""
    if isinstance(condition, Leaf):
        return frozenset({condition.field})
    return frozenset[str]().union(*(fields_of(one) for one in condition.members))


def required_texts(condition: Condition, field: str) -> frozenset[str] | None:
    """Return the values outside of which the condition cannot hold, or None where any value may do."""
    if isinstance(condition, Leaf):
        if condition.field != field or condition.operator not in ("eq", "in"):
            return None
        return frozenset([condition.value] if condition.operator == "eq" else condition.value)
    if condition.kind != "all":
        return None
    return next((found for one in condition.members if (found := required_texts(one, field)) is not None), None)


def compiled(condition: Condition) -> Test:
    """Return the condition as a function of the facts."""
    if isinstance(condition, Leaf):
        return _several(condition) if kind_of(condition.field) == "texts" else _single(condition)
    tests = tuple(compiled(one) for one in condition.members)
    if condition.kind == "not":
        [inner] = tests
        return lambda facts: not inner(facts)
    if len(tests) == 1:
        return tests[0]
    if condition.kind == "any":
        return lambda facts: any(test(facts) for test in tests)
    if len(tests) == 2:
        first, second = tests
        return lambda facts: first(facts) and second(facts)
    return lambda facts: all(test(facts) for test in tests)


def _leaf(field: str, raw: object) -> Leaf:
    kind = kind_of(field)
    if not isinstance(raw, dict) or len(cast(dict[object, object], raw)) != 1:
        raise ValueError(f"{field} takes exactly one operator, such as {{eq: …}}, not {raw!r}")
    [(operator, written)] = cast(dict[object, Any], raw).items()
    if operator not in OPERATORS:
        raise ValueError(f"{field}: unknown operator {operator!r}; known: {', '.join(OPERATORS)}")
    if operator not in OPERATORS_OF_KIND[kind]:
        raise ValueError(f"{field}: `{operator}` does not go with what this field holds ({kind})")
    if operator == "in":
        values = tuple(cast(list[object], written)) if isinstance(written, list) else ()
        is_right = bool(values) and all(_is(kind, one) for one in values)
        value: object = values
    else:
        is_right = isinstance(written, bool) if operator == "exists" else _is(kind, written)
        value = written
    if not is_right:
        raise ValueError(f"{field}: `{operator}` does not take {written!r}")
    return Leaf(field, str(operator), value)


def _is(kind: Kind, value: object) -> bool:
    if kind == "truth":
        return isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)


def _single(leaf: Leaf) -> Test:
    name, value = leaf.field, leaf.value
    match leaf.operator:
        case "exists":
            return (lambda facts: name in facts) if value else (lambda facts: name not in facts)
        case "eq":
            return lambda facts: facts.get(name, _MISSING) == value
        case "ne":
            return lambda facts: facts.get(name, value) != value
        case "in":
            values = frozenset(value)
            return lambda facts: facts.get(name, _MISSING) in values
        case "lt":
            return lambda facts: (fact := facts.get(name)) is not None and cast(float, fact) < value
        case "lte":
            return lambda facts: (fact := facts.get(name)) is not None and cast(float, fact) <= value
        case "gt":
            return lambda facts: (fact := facts.get(name)) is not None and cast(float, fact) > value
        case "gte":
            return lambda facts: (fact := facts.get(name)) is not None and cast(float, fact) >= value
        case "contains":
            return lambda facts: value in cast(str, facts.get(name, ""))
        case _:
            return lambda facts: cast(str, facts.get(name, "")).startswith(value) if name in facts else False


def _several(leaf: Leaf) -> Test:
    """The same over a fact with several texts."""
    name, value = leaf.field, leaf.value
    if leaf.operator == "exists":
        return (lambda facts: name in facts) if value else (lambda facts: name not in facts)
    if leaf.operator == "ne":
        return lambda facts: name in facts and value not in cast(tuple[str, ...], facts[name])
    one_text = _single(leaf if leaf.operator != "contains" else Leaf(name, "eq", value))
    return lambda facts: any(one_text({name: text}) for text in cast(tuple[str, ...], facts.get(name, ())))
