"""A tiny random model, a few dealership rows, and stages run in this process: imports cost more than the training."""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.neuroweaver.stage import (
    Generation,
    Stage,
    StageOutcome,
    StageSpec,
    stage_key,
)
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.workdir import Workdir
from auterity_dagster.training.checkpoint import StopRequest
from auterity_dagster.training.progress import Progress
from auterity_dagster.training.run import StageRun
from auterity_dagster.training.stages import execute
from tests.training.rows import EXAMPLES, PAIRS, PROMPTS

RECIPES = Path(__file__).parents[2] / "config" / "recipes"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads on a tiny model are slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    return load_recipe(RECIPES / "tiny_cpu.yaml")


@dataclass
class Bench:
    """Runs stages on one object store and remembers their results as inputs of the next."""

    folder: Path
    recipe: Recipe
    store: ObjectStore
    inputs: dict[str, str] = field(default_factory=dict)

    def spec(self, stage: Stage, *, generation: Generation | None = None, **changes: object) -> StageSpec:
        key = stage_key(stage, recipe=self.recipe, inputs=self.inputs, code="0" * 64)
        values = {
            "stage": stage,
            "stage_key": key,
            "recipe": self.recipe,
            "inputs": dict(self.inputs),
            "store": self.store.root,
            "workdir": self.folder / f"{stage}",
            "generation": generation,
            "cap_s": 600,
        }
        return StageSpec.model_validate(values | changes)

    def run(
        self, stage: Stage, *, stop: StopRequest | None = None, within: Workdir | None = None, **changes: object
    ) -> StageOutcome:
        spec = self.spec(stage, **changes)  # type: ignore[arg-type]
        workdir = within or Workdir(spec.workdir)
        workdir.path.mkdir(parents=True, exist_ok=True)
        with Progress(workdir, stage=stage) as progress:
            return execute(
                StageRun(spec=spec, workdir=workdir, store=self.store, progress=progress, stop=stop or StopRequest())
            )


@pytest.fixture
def bench(tmp_path: Path, tiny_recipe: Recipe) -> Bench:
    """A bench with rows, pairs, prompts and the tiny base stored."""
    return make_bench(tmp_path, tiny_recipe)


def make_bench(folder: Path, recipe: Recipe) -> Bench:
    bench = Bench(folder=folder, recipe=recipe, store=ObjectStore(folder / "objects"))
    bench.inputs["train"] = bench.store.put_bytes(canonical_lines(EXAMPLES))
    bench.inputs["validation"] = bench.store.put_bytes(canonical_lines(EXAMPLES[:6]))
    bench.inputs["prompts"] = bench.store.put_bytes(canonical_lines(PROMPTS))
    bench.inputs["pairs"] = bench.store.put_bytes(canonical_lines(PAIRS))
    outcome = bench.run(Stage.BASE)
    assert outcome.digest is not None, outcome.reason
    bench.inputs["base"] = outcome.digest
    return bench


OUTCOMES = ("sft", "dpo", "bundle", "answers")


@dataclass(frozen=True)
class Chain:
    """The outcomes of one whole chain."""

    bench: Bench
    sft: StageOutcome
    dpo: StageOutcome
    bundle: StageOutcome
    answers: StageOutcome


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Recipe) -> Chain:
    """SFT, DPO, bundle and answers of the tiny model, made once for all processes of a run: nobody changes them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "chain"
    folder.mkdir(exist_ok=True)
    kept = folder / "chain.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.is_file():
            return kept_chain(folder, tiny_recipe, kept.read_text())
        made = run_chain(folder, tiny_recipe)
        outcomes = {name: getattr(made, name).model_dump(mode="json") for name in OUTCOMES}
        kept.write_text(json.dumps({"inputs": made.bench.inputs, "outcomes": outcomes}))
        return made


def kept_chain(folder: Path, recipe: Recipe, text: str) -> Chain:
    kept = json.loads(text)
    bench = Bench(folder=folder, recipe=recipe, store=ObjectStore(folder / "objects"), inputs=kept["inputs"])
    outcomes = {name: StageOutcome.model_validate(one) for name, one in kept["outcomes"].items()}
    return Chain(bench=bench, **outcomes)


def run_chain(folder: Path, recipe: Recipe) -> Chain:
    torch.set_num_threads(1)
    bench = make_bench(folder, recipe)
    sft = finished(bench.run(Stage.SFT))
    bench.inputs["sft"] = sft.digest or ""
    expected = {"reference_log_probability": sft.metrics["reference_log_probability"]}
    dpo = finished(bench.run(Stage.DPO, expected=expected))
    bench.inputs["adapter"] = dpo.digest or ""
    bundle = finished(bench.run(Stage.BUNDLE))
    bench.inputs["adapter"] = bundle.digest or ""
    answers = finished(bench.run(Stage.GENERATE, generation=Generation(max_new_tokens=16, batch=4)))
    return Chain(bench=bench, sft=sft, dpo=dpo, bundle=bundle, answers=answers)


def finished(outcome: StageOutcome) -> StageOutcome:
    assert outcome.code == 0, outcome.reason
    return outcome


MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def recipe_with(tiny_recipe: Recipe) -> MakeRecipe:
    """Make the tiny recipe with some blocks changed."""

    def make(**blocks: dict[str, object]) -> Recipe:
        values = tiny_recipe.model_dump(mode="json", by_alias=True)
        for block, changes in blocks.items():
            values[block] |= changes
        return Recipe.model_validate(values)

    return make
