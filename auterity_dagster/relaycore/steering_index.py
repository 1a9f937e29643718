"""A policy's rules as a request meets them: by priority, compiled, and only those that its task allows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from auterity_dagster.relaycore.steering_condition import (
    FIELDS,
    METADATA,
    Condition,
    Facts,
    Test,
    compiled,
    fields_of,
    required_texts,
)

POINTER_LIMIT = 1_000_000
"""An index whose lists would hold more rules than this together is not made; every rule is then asked in turn."""


class _Rule(Protocol):
    @property
    def priority(self) -> int: ...

    @property
    def when(self) -> Condition: ...


RuleType = TypeVar("RuleType", bound=_Rule)


@dataclass(frozen=True, slots=True)
class RuleIndex(Generic[RuleType]):
    """Rules in order of priority, listed by the value of the one field that most of them compare with texts."""

    fields: frozenset[str]
    """Every field that some rule asks about: no other fact need be worked out."""
    by: str
    listed: dict[str, tuple[tuple[Test, RuleType], ...]]
    others: tuple[tuple[Test, RuleType], ...]

    def matching(self, facts: Facts) -> Iterator[RuleType]:
        """Yield the rules that match, the highest priority first."""
        for test, rule in self.listed.get(facts.get(self.by), self.others):  # type: ignore[arg-type]
            if test(facts):
                yield rule


def rule_index(rules: Sequence[RuleType]) -> RuleIndex[RuleType]:
    """Compile rules and index them."""
    ordered = sorted(rules, key=lambda rule: -rule.priority)
    fields = frozenset[str]().union(*(fields_of(rule.when) for rule in ordered))
    texts = sorted(one for one in fields if FIELDS.get(one) == "text" or METADATA.fullmatch(one))
    uses = Counter({name: sum(required_texts(rule.when, name) is not None for rule in ordered) for name in texts})
    by = uses.most_common(1)[0][0] if uses else ""
    wanted = [required_texts(rule.when, by) if by else None for rule in ordered]
    tests = [(compiled(rule.when), rule) for rule in ordered]
    others = tuple(test for test, values in zip(tests, wanted, strict=True) if values is None)
    values_named = frozenset[str]().union(*(values for values in wanted if values is not None))
    pointers = len(values_named) * len(others) + sum(len(values or ()) for values in wanted)
    if pointers > POINTER_LIMIT:
        return RuleIndex(fields, "", {}, tuple(tests))
    listed: dict[str, list[tuple[Test, RuleType]]] = {value: [] for value in values_named}
    for test, values in zip(tests, wanted, strict=True):
        for value in listed if values is None else values:
            listed[value].append(test)
    return RuleIndex(fields, by, {value: tuple(found) for value, found in listed.items()}, others)
