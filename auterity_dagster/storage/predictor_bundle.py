"""A predictor as two files: `predictor.json` with names and scalars, `arrays.safetensors` with every array.

Nothing is pickled. Everything is checked at loading: names, types, shapes, ranges. A wrong file is refused.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save_file  # pyright: ignore[reportUnknownVariableType]

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.predictor import Calibration, Domain, Linear, Predictor, shape_of
from auterity_dagster.relaycore.prompt_features import TRAITS
from auterity_dagster.relaycore.tree_ensemble import TreeEnsemble
from auterity_dagster.storage.object_store import ObjectStore

NAMES, ARRAYS = "predictor.json", "arrays.safetensors"
FILES = frozenset({NAMES, ARRAYS})
BYTE_LIMIT = 256 << 20
MAX_DEPTH = 64
_MODELS, _TASKS = 200, 2_000
Array = NDArray[np.generic]


class _Names(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(ge=1, le=1)
    models: tuple[str, ...] = Field(min_length=2, max_length=_MODELS)
    tasks: tuple[str, ...] = Field(min_length=1, max_length=_TASKS)
    traits: tuple[str, ...]
    tree_depth: int = Field(ge=0, le=MAX_DEPTH)
    known_words: float = Field(ge=0, le=1)
    similarity: float = Field(ge=-1.001, le=1.001)
    steps: tuple[int, ...]
    """How many steps each model's calibration has."""


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write both files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = _Names(
        schema_version=1,
        models=predictor.models,
        tasks=predictor.tasks,
        traits=TRAITS,
        tree_depth=predictor.trees.depth,
        known_words=predictor.domain.known_words,
        similarity=predictor.domain.similarity,
        steps=tuple(len(one.scores) for one in predictor.calibrations),
    )
    (folder / NAMES).write_text(names.model_dump_json(indent=1), encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in _arrays(predictor).items()}, folder / ARRAYS)


def load_predictor(folder: Path) -> Predictor:
    """Read both files. Raises `Invalid(code="unsafe_predictor")` for anything that `save_predictor` does not write."""
    try:
        if sum((folder / name).stat().st_size for name in FILES) > BYTE_LIMIT:
            raise _refused("it is too large")
        files = {name: (folder / name).read_bytes() for name in FILES}
    except OSError as error:
        raise _refused("its files cannot be read") from error
    return _read(files)


def stored_predictor(store: ObjectStore, digest: str) -> Predictor:
    """Read a predictor from the object store: exactly the bytes that were checked against their digests.

    Raises `Invalid` for a bundle that is none or was changed, and `NotFound` where a part of it is not there.
    """
    stored = store.manifest(digest).files
    if frozenset(stored) != FILES or sum(file.bytes for file in stored.values()) > BYTE_LIMIT:
        raise _refused("its files are not the expected ones")
    return _read({name: store.read_verified(file.sha256) for name, file in stored.items()})


def _read(files: Mapping[str, bytes]) -> Predictor:
    try:
        names = _Names.model_validate_json(files[NAMES])
        arrays: Mapping[str, Array] = load(files[ARRAYS])
    except (ValidationError, SafetensorError) as error:
        raise _refused("its files cannot be read") from error
    if names.traits != TRAITS or len(names.steps) != len(names.models):
        raise _refused("it was made for other features")
    return _checked(names, arrays)


def _arrays(predictor: Predictor) -> dict[str, Array]:
    trees = predictor.trees
    return {
        "task_means": predictor.task_means,
        "trait_means": predictor.trait_means,
        "trait_scales": predictor.trait_scales,
        "seen": predictor.seen,
        "idf": predictor.idf,
        "projection": predictor.projection,
        "length_weights": predictor.length.weights,
        "length_intercept": predictor.length.intercept,
        "dense_weights": predictor.dense.weights,
        "dense_intercept": predictor.dense.intercept,
        "words_weights": predictor.words.weights,
        "words_intercept": predictor.words.intercept,
        "neighbours": predictor.neighbours,
        "neighbour_residuals": predictor.neighbour_residuals,
        "tree_features": trees.features,
        "tree_thresholds": trees.thresholds,
        "tree_left": trees.left,
        "tree_right": trees.right,
        "tree_values": trees.values,
        "tree_roots": trees.roots,
        "tree_of_output": trees.outputs,
        "tree_baselines": trees.baselines,
        "tree_outputs": predictor.tree_outputs,
        "weights": predictor.weights,
        "step_scores": np.concatenate([one.scores for one in predictor.calibrations]),
        "step_probabilities": np.concatenate([one.probabilities for one in predictor.calibrations]),
        "step_lower_bounds": np.concatenate([one.lower_bounds for one in predictor.calibrations]),
    }


def _checked(names: _Names, arrays: Mapping[str, Array]) -> Predictor:
    shapes = _shapes(names, arrays)
    if arrays.keys() != shapes.keys():
        raise _refused("its arrays are not the expected ones")
    for name, (shape, kind) in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != kind:
            raise _refused(f"{name} has another shape or type")
        if kind != np.bool_ and not np.isfinite(arrays[name].astype(np.float64)).all():
            raise _refused(f"{name} holds what is no number")
    _require_trees(names, arrays)
    ends = np.cumsum(names.steps)[:-1]
    steps = zip(*(np.split(_floats(arrays, f"step_{part}"), ends) for part in _PARTS), strict=True)
    return Predictor(
        models=names.models,
        tasks=names.tasks,
        task_means=_floats(arrays, "task_means"),
        trait_means=_floats(arrays, "trait_means"),
        trait_scales=_floats(arrays, "trait_scales"),
        seen=arrays["seen"].astype(np.bool_),
        idf=arrays["idf"].astype(np.float32),
        projection=arrays["projection"].astype(np.float32),
        length=_linear(arrays, "length"),
        dense=_linear(arrays, "dense"),
        words=_linear(arrays, "words"),
        neighbours=arrays["neighbours"].astype(np.float32),
        neighbour_residuals=arrays["neighbour_residuals"].astype(np.float32),
        trees=TreeEnsemble(
            features=arrays["tree_features"].astype(np.int32),
            thresholds=_floats(arrays, "tree_thresholds"),
            left=arrays["tree_left"].astype(np.int32),
            right=arrays["tree_right"].astype(np.int32),
            values=_floats(arrays, "tree_values"),
            roots=arrays["tree_roots"].astype(np.int32),
            outputs=arrays["tree_of_output"].astype(np.int32),
            baselines=_floats(arrays, "tree_baselines"),
            depth=names.tree_depth,
        ),
        tree_outputs=_floats(arrays, "tree_outputs"),
        weights=_floats(arrays, "weights"),
        calibrations=tuple(Calibration(*parts) for parts in steps),
        domain=Domain(names.known_words, names.similarity),
    )


_PARTS = ("scores", "probabilities", "lower_bounds")


def _shapes(names: _Names, arrays: Mapping[str, Array]) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape and type of each array; those of free length are measured on one array and demanded of its fellows."""
    models, steps = len(names.models), sum(names.steps)
    dimensions = _length(arrays, "projection", axis=1)
    neighbours, nodes = _length(arrays, "neighbours"), _length(arrays, "tree_features")
    trees, outputs = _length(arrays, "tree_roots"), _length(arrays, "tree_baselines")
    small = {"idf", "projection", "words_weights", "length_weights", "dense_weights"}
    fixed = shape_of(names.models, dimensions=dimensions)
    found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        name: (shape, np.bool_ if name == "seen" else np.float32 if name in small else np.float64)
        for name, shape in fixed.items()
    }
    found |= {f"{name}_intercept": ((models,), np.float64) for name in ("length", "dense", "words")}
    found |= {f"step_{part}": ((steps,), np.float64) for part in _PARTS}
    found |= {f"tree_{name}": ((nodes,), np.int32) for name in ("features", "left", "right")}
    found |= {f"tree_{name}": ((nodes,), np.float64) for name in ("thresholds", "values")}
    return found | {
        "task_means": ((len(names.tasks) + 1, models), np.float64),
        "neighbours": ((neighbours, dimensions), np.float32),
        "neighbour_residuals": ((neighbours, models), np.float32),
        "tree_roots": ((trees,), np.int32),
        "tree_of_output": ((trees,), np.int32),
        "tree_baselines": ((outputs,), np.float64),
        "tree_outputs": ((outputs, models), np.float64),
    }


def _require_trees(names: _Names, arrays: Mapping[str, Array]) -> None:
    """Refuse indices that lead out of the arrays, and shares that are none."""
    nodes = len(arrays["tree_features"])
    width = len(TRAITS) + arrays["projection"].shape[1] + len(names.models)
    limits = {"tree_features": width, "tree_left": nodes, "tree_right": nodes, "tree_roots": nodes}
    limits["tree_of_output"] = len(arrays["tree_baselines"])
    for name, limit in limits.items():
        indices = arrays[name].astype(np.int64)
        if not len(indices) or indices.min() < 0 or indices.max() >= limit:
            raise _refused(f"{name} points nowhere")
    bounds, probabilities = _floats(arrays, "step_lower_bounds"), _floats(arrays, "step_probabilities")
    are_shares = (bounds >= 0).all() and (bounds <= probabilities).all() and (probabilities <= 1).all()
    if not (are_shares and min(names.steps) > 0 and (_floats(arrays, "trait_scales") > 0).all()):
        raise _refused("its calibration is none")


def _length(arrays: Mapping[str, Array], name: str, *, axis: int = 0) -> int:
    shape = arrays[name].shape if name in arrays else ()
    if len(shape) <= axis:
        raise _refused(f"{name} is missing")
    return int(shape[axis])


def _linear(arrays: Mapping[str, Array], name: str) -> Linear:
    return Linear(arrays[f"{name}_weights"].astype(np.float32), _floats(arrays, f"{name}_intercept"))


def _floats(arrays: Mapping[str, Array], name: str) -> NDArray[np.float64]:
    return arrays[name].astype(np.float64)


def _refused(reason: str) -> Invalid:
    return Invalid(f"This is no predictor that may be loaded: {reason}.", code="unsafe_predictor")
