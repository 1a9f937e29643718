"""Boosted trees of scikit-learn as plain arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from auterity_dagster.relaycore.tree_ensemble import TreeEnsemble


def exported(forests: Sequence[HistGradientBoostingRegressor]) -> TreeEnsemble:
    """Return the forests, each as one output.

    The library offers no public way to its nodes: a test holds this against its own predictions.
    """
    parts: list[Any] = []
    roots: list[int] = []
    outputs: list[int] = []
    baselines: list[float] = []
    at = 0
    for output, forest in enumerate(forests):
        inner: Any = forest
        baselines.append(float(np.ravel(inner._baseline_prediction)[0]))
        for (tree,) in inner._predictors:
            parts.append((at, tree.nodes))
            roots.append(at)
            outputs.append(output)
            at += len(tree.nodes)
    own = np.arange(at)
    nodes = np.concatenate([part for _, part in parts])
    offsets = np.concatenate([np.full(len(part), start) for start, part in parts])
    is_leaf = nodes["is_leaf"].astype(bool)
    return TreeEnsemble(
        features=np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.int32),
        thresholds=np.where(is_leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        left=np.where(is_leaf, own, nodes["left"] + offsets).astype(np.int32),
        right=np.where(is_leaf, own, nodes["right"] + offsets).astype(np.int32),
        values=np.where(is_leaf, nodes["value"], 0.0).astype(np.float64),
        roots=np.array(roots, dtype=np.int32),
        outputs=np.array(outputs, dtype=np.int32),
        baselines=np.array(baselines),
        depth=int(nodes["depth"].max()),
    )
