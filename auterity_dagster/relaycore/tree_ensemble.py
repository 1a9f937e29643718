"""Boosted regression trees as plain arrays: no library and no pickle is needed to walk them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.relaycore.outcomes import Floats


@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """All trees of all outputs, node by node. A leaf points to itself, so that a walk needs no test for its end.

    `roots` names each tree's first node, `outputs` the output that its value is added to; `depth` is the longest walk.
    """

    features: NDArray[np.int32]
    thresholds: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    values: Floats
    roots: NDArray[np.int32]
    outputs: NDArray[np.int32]
    baselines: Floats
    depth: int

    def predict(self, rows: Floats) -> Floats:
        """Return one value for each row and output."""
        found = np.empty((len(rows), len(self.baselines)))
        for index, row in enumerate(rows):
            nodes = self.roots
            for _ in range(self.depth):
                goes_left = row[self.features[nodes]] <= self.thresholds[nodes]
                nodes = np.where(goes_left, self.left[nodes], self.right[nodes])
            found[index] = self.baselines + np.bincount(
                self.outputs, weights=self.values[nodes], minlength=len(self.baselines)
            )
        return found
