"""Whether rows or traffic have changed since a reference: the population stability index by column, and what counts.

The index sums (p - q) ln(p / q) over bins of the reference. Only `PSI` is compared with a limit: the usual default of
drift tools is a p-value, which grows smaller the surer the drift is, so that "at most 0.1" passes what has drifted.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

PSI_LIMIT = 0.2
"""From here on a column has drifted."""

ENOUGH_ROWS = 500
"""On fewer rows, on either side, the index says nothing: chance alone moves it past the limit."""

Features = Mapping[str, Sequence[float | str]]
"""Columns of equal length: numbers, or categories as text."""


class Drift(BaseModel):
    """What a comparison found: the index of each column, and the columns past the limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    reference_rows: int
    psi: Mapping[str, float]

    @property
    def is_conclusive(self) -> bool:
        """Whether both sides have enough rows for the index to mean anything."""
        return min(self.rows, self.reference_rows) >= ENOUGH_ROWS

    @property
    def drifted(self) -> tuple[str, ...]:
        """The columns that have drifted; none where there are too few rows to say."""
        if not self.is_conclusive:
            return ()
        return tuple(sorted(name for name, psi in self.psi.items() if psi > PSI_LIMIT))


def drifted_twice(newest: Drift, before: Drift | None) -> tuple[str, ...]:
    """Return the columns that have drifted in two windows in a row: one odd day is no reason to train again."""
    return () if before is None else tuple(sorted({*newest.drifted} & {*before.drifted}))


def rows_of(features: Features) -> int:
    """Return how many rows the columns have."""
    return len(next(iter(features.values()), ()))


def numbers_in(features: Features) -> tuple[str, ...]:
    """Return the columns of numbers; the others are categories."""
    return tuple(name for name, values in features.items() if not any(isinstance(value, str) for value in values))
