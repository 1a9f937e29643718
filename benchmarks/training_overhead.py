"""What the platform adds to a bare TRL script: SFT on the same spec, in the same run, in processes of their own.

`python benchmarks/training_overhead.py [--recipe smollm2_cpu_qlora] [--steps 10] [--rounds 3]`: each round runs, one
after the other and in an order that turns, TRL's own trainer, TRL's trainer with the platform's loss, and the
platform's stage. Compared are the seconds of the training loop, checkpoints included; what comes before and after it
is reported apart.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.jsonl import canonical_lines
from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.neuroweaver.stage import Stage, StageSpec, stage_key
from auterity_dagster.prompt import load_prompts
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.workdir import Workdir

CONFIG = Path(__file__).parents[1] / "config"
BARE, BARE_WITH_LOSS, PLATFORM = "bare TRL", "bare TRL, the platform's loss", "platform"
TRAINED = "trained; measuring and storing the adapter"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="smollm2_cpu_qlora")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", choices=(BARE, BARE_WITH_LOSS), help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.bare, StageSpec.model_validate_json(options.spec.read_bytes()))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options), indent=1))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return the medians of the rounds and how they compare."""
    recipe = _recipe(options.recipe, steps=options.steps)
    store = ObjectStore(folder / "objects")
    corpus = generate(dict(load_prompts(CONFIG / "prompts")), seed=1, conversations=400)
    rows = [row for row in corpus.rows if row.family in recipe.data.families]
    inputs = {
        "train": store.put_bytes(canonical_lines(rows)),
        "validation": store.put_bytes(canonical_lines(rows[:40])),
    }
    base = _spec(Stage.BASE, recipe, {}, store, folder / "base")
    _run_platform(base)
    inputs["base"] = _outcome(base.workdir)
    seconds: dict[str, list[dict[str, float]]] = {BARE: [], BARE_WITH_LOSS: [], PLATFORM: []}
    load = []
    for number in range(options.rounds):
        order = list(seconds)
        for kind in order[number % 3 :] + order[: number % 3]:
            spec = _spec(Stage.SFT, recipe, inputs, store, folder / f"{kind.replace(' ', '-')}-{number}")
            load.append(os.getloadavg()[0])
            seconds[kind].append(_run_platform(spec) if kind == PLATFORM else _run_bare(kind, spec))
            print(kind, seconds[kind][-1], file=sys.stderr)
    found = {
        kind: {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}
        for kind, runs in seconds.items()
    }
    loop = {kind: figures["loop_s"] for kind, figures in found.items()}
    return {
        "recipe": recipe.recipe,
        "steps": options.steps,
        "rounds": options.rounds,
        "load": [round(min(load), 1), round(max(load), 1)],
        "medians": found,
        "loop_over_bare_percent": round(100 * (loop[PLATFORM] / loop[BARE] - 1), 1),
        "loop_over_bare_with_the_same_loss_percent": round(100 * (loop[PLATFORM] / loop[BARE_WITH_LOSS] - 1), 1),
    }


def bare(kind: str, spec: StageSpec) -> None:
    """Train as a script of TRL's documentation would: same base, ids, labels and numbers, and nothing else."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE"}
    import torch
    from datasets import Dataset
    from transformers import set_seed
    from trl.trainer.sft_trainer import SFTTrainer

    from auterity_dagster.neuroweaver.example import TrainingExample
    from auterity_dagster.training.adapter import keep_full_precision
    from auterity_dagster.training.base_model import load_tokenizer
    from auterity_dagster.training.checkpoint import StopRequest
    from auterity_dagster.training.progress import Progress
    from auterity_dagster.training.run import StageRun
    from auterity_dagster.training.sft import TrainedTokensOnly, fresh_model, sft_arguments, tokenised

    workdir, store = Workdir(spec.workdir), ObjectStore(spec.store)
    run = StageRun(spec, workdir, store, Progress(workdir, stage=spec.stage), StopRequest())
    set_seed(spec.recipe.seed)
    torch.set_num_threads(spec.recipe.hardware.threads)
    folder = run.checkout("base")
    tokenizer = load_tokenizer(folder)
    rows = tokenised(tokenizer, run.rows("train", TrainingExample), spec.recipe.data)
    dataset = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    model = fresh_model(run, folder)
    trainer = (SFTTrainer if kind == BARE else TrainedTokensOnly)(
        model=model, args=sft_arguments(run), train_dataset=dataset, processing_class=tokenizer
    )
    keep_full_precision(model)
    ready = time.monotonic()
    trainer.train()
    trained = time.monotonic()
    trainer.save_model(str(spec.workdir / "result"))
    ended = time.monotonic()
    told = {"loop_s": trained - ready, "after_s": ended - trained}
    (spec.workdir / "seconds.json").write_text(json.dumps(told))


def _run_bare(kind: str, spec: StageSpec) -> dict[str, float]:
    path = _written(spec)
    began = time.monotonic()
    subprocess.run([sys.executable, __file__, "--bare", kind, "--spec", str(path)], check=True, capture_output=True)
    whole_s = time.monotonic() - began
    told = json.loads((spec.workdir / "seconds.json").read_text())
    return {"before_s": whole_s - sum(told.values()), **told}


def _run_platform(spec: StageSpec) -> dict[str, float]:
    path = _written(spec)
    began = time.time()
    command = [sys.executable, "-m", "auterity_dagster.training", spec.stage.value, "--spec", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{spec.stage} ended with {done.returncode}: {done.stderr[-2000:]}")
    ended = time.time()
    events = [json.loads(line) for line in (spec.workdir / "events.jsonl").read_text().splitlines()]
    if spec.stage is Stage.BASE:
        return {}
    started = next(event["at"] for event in events if event["kind"] == "started")
    trained = next(event["at"] for event in events if event["text"] == TRAINED)
    outcome = Workdir(spec.workdir).outcome()
    assert outcome is not None
    figures = {name: outcome.metrics[name] for name in ("tokens_per_s", "peak_memory_bytes")}
    return {"before_s": started - began, "loop_s": trained - started, "after_s": ended - trained, **figures}


def _recipe(name: str, *, steps: int) -> Recipe:
    values = load_recipe(CONFIG / "recipes" / f"{name}.yaml").model_dump(mode="json", by_alias=True)
    values["sft"] |= {"steps": steps, "epochs": None, "save_every": max(1, steps // 2)}
    return Recipe.model_validate(values)


def _spec(stage: Stage, recipe: Recipe, inputs: dict[str, str], store: ObjectStore, workdir: Path) -> StageSpec:
    key = stage_key(stage, recipe=recipe, inputs=inputs, code="0" * 64, extra=str(workdir))
    return StageSpec(
        stage=stage, stage_key=key, recipe=recipe, inputs=inputs, store=store.root, workdir=workdir, cap_s=36_000
    )


def _written(spec: StageSpec) -> Path:
    spec.workdir.mkdir(parents=True)
    path = spec.workdir / "spec.json"
    path.write_text(spec.model_dump_json(by_alias=True))
    return path


def _outcome(workdir: Path) -> str:
    outcome = Workdir(workdir).outcome()
    assert outcome is not None
    assert outcome.digest is not None, outcome.reason
    return outcome.digest


if __name__ == "__main__":
    main()
