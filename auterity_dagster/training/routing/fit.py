"""Learn a routing predictor from an outcome table: members, their weights out of fold, calibration, domain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from auterity_dagster.relaycore.outcomes import Floats, OutcomeTable
from auterity_dagster.relaycore.predictor import (
    MEMBERS,
    Domain,
    Encoded,
    Linear,
    Predictor,
    encode,
    known_share,
    nearest,
    nearest_mean,
    unit,
    weighted,
)
from auterity_dagster.relaycore.prompt_features import BUCKETS
from auterity_dagster.training.routing.calibrate import calibrations
from auterity_dagster.training.routing.trees import exported

FOLDS = 4
DIMENSIONS = 48
MAX_NEIGHBOURS = 8_000
PRIOR_ITEMS = 20.0
"""A task's mean starts from the mean over all tasks, which counts as so many prompts."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A predictor, and what it said of its own training prompts while they were held out."""

    predictor: Predictor
    out_of_fold: Floats


@dataclass(frozen=True, slots=True)
class _Text:
    """What is learned from the prompts alone, without any score."""

    traits: Floats
    scaled: Floats
    trait_means: Floats
    trait_scales: Floats
    words: csr_matrix
    vectors: Floats
    seen: NDArray[np.bool_]
    idf: NDArray[np.float32]
    projection: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Members:
    """The fitted members of one fold, or of all rows."""

    task_means: Floats
    length: Linear
    dense: Linear
    words: Linear
    neighbours: NDArray[np.float32]
    neighbour_residuals: NDArray[np.float32]
    forests: list[HistGradientBoostingRegressor]
    tree_outputs: Floats


def learn(table: OutcomeTable, encoded: Sequence[Encoded], *, seed: int) -> Learned:
    """Return a predictor for the table's models. `encoded` are its prompts, in its order."""
    tasks = tuple(sorted(set(table.tasks)))
    task_of = np.array([tasks.index(task) for task in table.tasks])
    scores = _filled(table)
    text = _text(encoded, seed=seed)
    held_out = np.zeros((len(MEMBERS), *scores.shape))
    base = np.zeros(scores.shape)
    groups = np.unique(np.array(table.prompts, dtype=object).astype(str), return_inverse=True)[1]
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(scores, groups=groups):
        members = _fit(text, scores, task_of, train, tasks=len(tasks), seed=seed)
        base[test] = members.task_means[task_of[test]]
        held_out[:, test] = _predict(members, text, task_of, test)
    weights = _weights(held_out, scores - base)
    raw = np.clip(base + np.tensordot(weights, held_out, axes=1), 0, 1)
    members = _fit(text, scores, task_of, np.arange(len(scores)), tasks=len(tasks), seed=seed)
    predictor = Predictor(
        models=table.models,
        tasks=tasks,
        task_means=members.task_means,
        trait_means=text.trait_means,
        trait_scales=text.trait_scales,
        seen=text.seen,
        idf=text.idf,
        projection=text.projection,
        length=members.length,
        dense=members.dense,
        words=members.words,
        neighbours=members.neighbours,
        neighbour_residuals=members.neighbour_residuals,
        trees=exported(members.forests),
        tree_outputs=members.tree_outputs,
        weights=weights,
        calibrations=calibrations(raw, table.scores),
        domain=_domain(text, encoded, members.neighbours),
    )
    return Learned(predictor, raw)


def encoded_prompts(prompts: Iterable[str]) -> list[Encoded]:
    """Return each prompt as numbers."""
    return [encode(prompt) for prompt in prompts]


def _filled(table: OutcomeTable) -> Floats:
    """Scores without gaps: a cell that nobody measured is what its model and its prompt suggest together."""
    model_means = table.mean_scores()
    prompt_effect = np.nanmean(table.scores - model_means, axis=1, keepdims=True)
    prompt_effect = np.where(np.isnan(prompt_effect), 0.0, prompt_effect)
    return np.where(np.isnan(table.scores), np.clip(model_means + prompt_effect, 0, 1), table.scores)


def _text(encoded: Sequence[Encoded], *, seed: int) -> _Text:
    plain = np.stack([one.traits for one in encoded])
    lengths = [len(one.words.buckets) for one in encoded]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    buckets = np.concatenate([one.words.buckets for one in encoded])
    frequency = np.bincount(buckets, minlength=BUCKETS)
    idf = np.where(frequency >= 2, np.log((1 + len(encoded)) / (1 + frequency)) + 0.1, 0).astype(np.float32)
    values = np.concatenate([weighted(one.words, idf) for one in encoded])
    words = csr_matrix((values, buckets, starts), shape=(len(encoded), BUCKETS))
    dimensions = min(DIMENSIONS, len(encoded) // 4)
    components: Floats = np.asarray(TruncatedSVD(dimensions, random_state=seed).fit(words).components_)
    projection = np.ascontiguousarray(components.T, dtype=np.float32)
    means, scales = plain.mean(axis=0), plain.std(axis=0)
    scales[scales < 1e-9] = 1.0
    return _Text(
        traits=plain,
        scaled=(plain - means) / scales,
        trait_means=means,
        trait_scales=scales,
        words=words,
        vectors=np.stack([unit(row) for row in words @ projection]),
        seen=frequency >= 1,
        idf=idf,
        projection=projection,
    )


def _fit(
    text: _Text, scores: Floats, task_of: NDArray[np.intp], rows: NDArray[np.intp], *, tasks: int, seed: int
) -> _Members:
    means = _task_means(scores[rows], task_of[rows], tasks=tasks)
    residuals = scores[rows] - means[task_of[rows]]
    kept = np.random.default_rng(seed).permutation(len(rows))[:MAX_NEIGHBOURS]
    forests, outputs = _forests(_tree_rows(text, means, task_of, rows), residuals, seed=seed)
    return _Members(
        task_means=means,
        length=_linear(Ridge(alpha=1.0), text.scaled[rows, :1], residuals),
        dense=_linear(Ridge(alpha=30.0), np.hstack((text.scaled[rows], text.vectors[rows])), residuals),
        words=_linear(Ridge(alpha=3.0, solver="sparse_cg", tol=1e-3), text.words[rows], residuals),
        neighbours=text.vectors[rows[kept]].astype(np.float32),
        neighbour_residuals=residuals[kept].astype(np.float32),
        forests=forests,
        tree_outputs=outputs,
    )


def _task_means(scores: Floats, task_of: NDArray[np.intp], *, tasks: int) -> Floats:
    overall = scores.mean(axis=0)
    counts = np.bincount(task_of, minlength=tasks)[:, None]
    sums = np.stack([np.bincount(task_of, weights=column, minlength=tasks) for column in scores.T], axis=1)
    return np.vstack(((sums + PRIOR_ITEMS * overall) / (counts + PRIOR_ITEMS), overall))


def _linear(ridge: Ridge, rows: Floats | csr_matrix, residuals: Floats) -> Linear:
    ridge.fit(rows, residuals)
    return Linear(np.ascontiguousarray(ridge.coef_.T, dtype=np.float32), np.asarray(ridge.intercept_, dtype=np.float64))


def _tree_rows(text: _Text, means: Floats, task_of: NDArray[np.intp], rows: NDArray[np.intp]) -> Floats:
    return np.hstack((text.traits[rows], text.vectors[rows], means[task_of[rows]]))


def _forests(rows: Floats, residuals: Floats, *, seed: int) -> tuple[list[HistGradientBoostingRegressor], Floats]:
    """One forest for how hard a prompt is for all, one a model for how it differs: routing needs the differences."""
    common = residuals.mean(axis=1)
    own = residuals - common[:, None]
    models = residuals.shape[1]
    targets = [common, *([own[:, 0]] if models == 2 else own.T)]
    outputs = np.vstack((np.ones(models), [[1.0, -1.0]] if models == 2 else np.eye(models)))
    forests = [
        HistGradientBoostingRegressor(
            learning_rate=0.06,
            max_iter=100,
            max_leaf_nodes=12,
            max_depth=5,
            min_samples_leaf=min(30, max(5, len(rows) // 20)),
            l2_regularization=5.0,
            max_features=0.3,
            early_stopping=False,  # pyright: ignore[reportArgumentType] - the stub knows "auto" only
            random_state=seed,
        ).fit(rows, target)
        for target in targets
    ]
    return forests, outputs


def _predict(members: _Members, text: _Text, task_of: NDArray[np.intp], rows: NDArray[np.intp]) -> Floats:
    similarities = text.vectors[rows].astype(np.float32) @ members.neighbours.T
    tree_rows = _tree_rows(text, members.task_means, task_of, rows)
    return np.stack(
        (
            text.scaled[rows, :1] @ members.length.weights + members.length.intercept,
            np.hstack((text.scaled[rows], text.vectors[rows])) @ members.dense.weights + members.dense.intercept,
            text.words[rows] @ members.words.weights + members.words.intercept,
            np.stack([nearest_mean(row, members.neighbour_residuals) for row in similarities]),
            np.stack([forest.predict(tree_rows) for forest in members.forests], axis=1) @ members.tree_outputs,
        )
    )


def _weights(held_out: Floats, residuals: Floats) -> Floats:
    """Non-negative weights that predict the models' differences best, drawn towards a plain average."""
    own = residuals - residuals.mean(axis=1, keepdims=True)
    columns = (held_out - held_out.mean(axis=2, keepdims=True)).reshape(len(MEMBERS), -1).T
    pull = np.sqrt(0.5 * np.square(columns).sum(axis=0).mean())
    stacked = np.vstack((columns, pull * np.eye(len(MEMBERS))))
    wanted = np.concatenate((own.ravel(), np.full(len(MEMBERS), pull / len(MEMBERS))))
    return nnls(stacked, wanted)[0]


def _domain(text: _Text, encoded: Sequence[Encoded], neighbours: NDArray[np.float32]) -> Domain:
    """Bounds that all but 1 % of the learned prompts keep, each measured as if it were not among them."""
    others = np.bincount(np.concatenate([one.words.buckets for one in encoded]), minlength=BUCKETS) >= 2
    shares = [known_share(one.words, others) for one in encoded]
    sample = np.random.default_rng(0).permutation(len(encoded))[:1000]
    near = []
    for row in text.vectors[sample].astype(np.float32) @ neighbours.T:
        row[np.argmax(row)] = -1.0
        near.append(nearest(row))
    return Domain(float(np.quantile(shares, 0.01)), float(np.quantile(near, 0.01)))
