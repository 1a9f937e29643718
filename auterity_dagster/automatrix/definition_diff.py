"""What changed between two definitions: steps by their ids, everything else by its path. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

Kind = Literal["added", "removed", "changed", "moved"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; `path` is `steps.draft.with.prompt` or `variables`. A step that only moved has positions."""

    kind: Kind
    path: str
    before: Any
    after: Any


_NAMED = {"steps": "id", "on_failure": "id", "variables": "name", "triggers": "id"}
"""Lists whose entries are found again by a name and not by their place."""


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return every difference, in the order of the newer definition."""
    return tuple(_mapping("", before, after))


def _mapping(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in dict.fromkeys([*after, *before]):
        place = f"{path}.{key}" if path else key
        if key not in before:
            yield Change("added", place, None, after[key])
        elif key not in after:
            yield Change("removed", place, before[key], None)
        else:
            yield from _value(place, key, before[key], after[key])


def _value(path: str, key: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _mapping(path, cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after))
        return
    name = _NAMED.get(key)
    old, new = _by_name(before, name), _by_name(after, name)
    if old is None or new is None:
        yield Change("changed", path, before, after)
        return
    yield from _mapping(path, old, new)
    common_before, common_after = [one for one in old if one in new], [one for one in new if one in old]
    for one in common_after:
        positions = common_before.index(one), common_after.index(one)
        if positions[0] != positions[1]:
            yield Change("moved", f"{path}.{one}", *positions)


def _by_name(value: Any, name: str | None) -> dict[str, Any] | None:
    """The entries of a list by their names, None if they cannot be told apart by them."""
    if name is None or not isinstance(value, Sequence) or isinstance(value, str):
        return None
    entries = [cast("Mapping[str, Any]", one) for one in cast("Sequence[Any]", value) if isinstance(one, Mapping)]
    named = {one[name]: one for one in entries if isinstance(one.get(name), str)}
    return named if len(named) == len(cast("Sequence[Any]", value)) else None
