"""How deep parsed JSON is nested: looked at level by level, so that nothing recurses."""

from collections.abc import Iterator
from typing import cast


def is_deeper(value: object, limit: int) -> bool:
    """True if lists and objects are nested more than `limit` deep; a plain value is 0 deep, `[]` is 1."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return bool(level)


def _members(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        return iter(cast(dict[str, object], value).values())
    return iter(cast(list[object], value))
