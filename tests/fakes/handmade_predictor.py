"""A predictor that was not learned but written: it holds one model for bad at prompts with a certain word."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from auterity_dagster.relaycore.predictor import MEMBERS, Calibration, Domain, Linear, Predictor
from auterity_dagster.relaycore.prompt_features import BUCKETS, TRAITS, buckets_of, tokens_of
from auterity_dagster.relaycore.tree_ensemble import TreeEnsemble
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.predictor_bundle import save_predictor

GOOD, BAD = (0.95, 0.9), (0.1, 0.05)
"""Probability and lower bound of an answer that is held for good, and of one that is not."""

DIMENSIONS = 2


def handmade_predictor(models: Sequence[str], *, task: str, weak: int, hard_word: str) -> Predictor:
    """All `models` are good at `task`, but `models[weak]` where the prompt has this word."""
    count = len(models)
    words = np.zeros((BUCKETS, count), dtype=np.float32)
    bucket, *_ = buckets_of(tokens_of(hard_word))
    words[bucket, weak] = -50
    nothing = np.zeros(count)
    steps = Calibration(np.array([0.0, 0.5]), np.array([BAD[0], GOOD[0]]), np.array([BAD[1], GOOD[1]]))
    return Predictor(
        models=tuple(models),
        tasks=(task,),
        task_means=np.full((2, count), 0.9),
        trait_means=np.zeros(len(TRAITS)),
        trait_scales=np.ones(len(TRAITS)),
        seen=np.ones(BUCKETS, dtype=np.bool_),
        idf=np.ones(BUCKETS, dtype=np.float32),
        projection=np.zeros((BUCKETS, DIMENSIONS), dtype=np.float32),
        length=Linear(np.zeros((1, count), dtype=np.float32), nothing),
        dense=Linear(np.zeros((len(TRAITS) + DIMENSIONS, count), dtype=np.float32), nothing),
        words=Linear(words, nothing),
        neighbours=np.zeros((1, DIMENSIONS), dtype=np.float32),
        neighbour_residuals=np.zeros((1, count), dtype=np.float32),
        trees=TreeEnsemble(
            features=np.zeros(1, dtype=np.int32),
            thresholds=np.zeros(1),
            left=np.zeros(1, dtype=np.int32),
            right=np.zeros(1, dtype=np.int32),
            values=np.zeros(1),
            roots=np.zeros(1, dtype=np.int32),
            outputs=np.zeros(1, dtype=np.int32),
            baselines=np.zeros(1),
            depth=0,
        ),
        tree_outputs=np.zeros((1, count)),
        weights=np.array([float(name == "words") for name in MEMBERS]),
        calibrations=(steps,) * count,
        domain=Domain(known_words=0.0, similarity=-1.0),
    )


def put_predictor(store: ObjectStore, predictor: Predictor, folder: Path) -> str:
    """Store a predictor as its asset does; return its digest."""
    save_predictor(predictor, folder)
    return store.put_bundle(folder)
