"""A predictor comes back bit for bit, and nothing else is loaded as one."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.outcomes import outcome_table
from auterity_dagster.relaycore.predictor import Predictor
from auterity_dagster.storage.predictor_bundle import ARRAYS, FILES, NAMES, load_predictor, save_predictor
from auterity_dagster.training.routing.fit import encoded_prompts, learn
from tests.routing.conftest import make_outcomes


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    table = outcome_table(make_outcomes(prompts=150, models=3))
    with threadpool_limits(1):
        return learn(table, encoded_prompts(table.prompts), seed=0).predictor


@pytest.fixture
def folder(predictor: Predictor, tmp_path: Path) -> Path:
    save_predictor(predictor, tmp_path / "predictor")
    return tmp_path / "predictor"


def test_what_was_saved_says_the_same_to_the_bit(predictor: Predictor, folder: Path) -> None:
    again = load_predictor(folder)

    assert {path.name for path in folder.iterdir()} == FILES
    for prompt in ("a theorem about the escrow clause", "hello", "", "parking hours please 12"):
        first, second = predictor.predict(prompt, "sales"), again.predict(prompt, "sales")
        assert first.scores.tolist() == second.scores.tolist()
        assert first.lower_bounds.tolist() == second.lower_bounds.tolist()
        assert first.is_in_domain == second.is_in_domain


def test_no_words_of_the_prompts_are_in_it(folder: Path) -> None:
    content = b"".join(path.read_bytes() for path in folder.iterdir())

    assert not any(word in content for word in (b"theorem", b"escrow", b"parking"))


def change_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        arrays = load_file(folder / ARRAYS)
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
        save_file(arrays, folder / ARRAYS)

    return changed


def change_names(**changes: object) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        names = json.loads((folder / NAMES).read_text())
        (folder / NAMES).write_text(json.dumps({**names, **changes}))

    return changed


def pickled(folder: Path) -> None:
    (folder / ARRAYS).write_bytes(pickle.dumps({"idf": [1.0]}))


def extra_array(folder: Path) -> None:
    save_file({**load_file(folder / ARRAYS), "more": np.zeros(3)}, folder / ARRAYS)


@pytest.mark.parametrize(
    "damage",
    [
        pickled,
        extra_array,
        lambda folder: (folder / ARRAYS).unlink(),
        lambda folder: (folder / ARRAYS).write_bytes((folder / ARRAYS).read_bytes()[:-100]),
        change_names(models=["a", "b"]),
        change_names(tree_depth=10_000),
        change_names(traits=["one"]),
        change_names(steps=[0, 0, 0]),
        change_names(code="import os"),
        change_array("idf", lambda array: array[:-1]),
        change_array("words_weights", lambda array: array.astype(np.float64)),
        change_array("task_means", lambda array: np.full_like(array, np.nan)),
        change_array("tree_left", lambda array: array + 1_000_000),
        change_array("tree_features", lambda array: array - 1),
        change_array("tree_of_output", lambda array: array + 50),
        change_array("trait_scales", np.zeros_like),
        change_array("step_probabilities", lambda array: array + 1),
        change_array("step_lower_bounds", lambda array: array + 1),
    ],
)
def test_nothing_else_is_loaded(damage: Callable[[Path], None], folder: Path) -> None:
    damage(folder)

    with pytest.raises(Invalid) as refused:
        load_predictor(folder)

    assert refused.value.code == "unsafe_predictor"
