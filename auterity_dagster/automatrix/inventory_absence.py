"""A feed that names the whole stock: what it no longer names is gone, unless so much is gone that it may be torn."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Absence:
    """Of `listed` vehicles that were on offer before a feed, it does not name `gone`, by stock number."""

    listed: int = 0
    gone: tuple[str, ...] = ()

    @property
    def needs_a_person(self) -> bool:
        """True if half of the stock or more went at once: a broken export looks the same."""
        return bool(self.gone) and 2 * len(self.gone) >= self.listed

    @property
    def unlisted(self) -> int:
        """How many are off the stock with the feed."""
        return 0 if self.needs_a_person else len(self.gone)

    @property
    def waiting(self) -> int:
        """How many stay on offer until a person decides."""
        return len(self.gone) if self.needs_a_person else 0


def absence(listed: Collection[str], named: Collection[str]) -> Absence:
    """Compare what was on offer with what a feed names; a row that could not be read still names its vehicle."""
    known = set(named)
    return Absence(len(listed), tuple(sorted(number for number in listed if number not in known)))
