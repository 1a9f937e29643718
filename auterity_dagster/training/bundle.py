"""The serving bundle: the last adapter in the type that serves, with tokenizer, template and a card; nothing else."""

import json
import shutil

import torch
from safetensors.torch import load_file, save_file

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.training.adapter import base_of, check_safe
from auterity_dagster.training.base_model import load_tokenizer
from auterity_dagster.training.chat_format import render_prompt, token_ids
from auterity_dagster.training.run import StageResult, StageRun

_WEIGHTS = "adapter_model.safetensors"
_COMPARED = 50


def bundle(run: StageRun) -> StageResult:
    """Put the bundle together and compare what its template and tokenizer make of prompts with the base's own."""
    folder, base = run.workdir.result, run.checkout("base")
    shutil.rmtree(folder, ignore_errors=True)
    # The source holds read-only links into the store: a copy is made that may be changed.
    shutil.copytree(run.checkout("adapter"), folder, copy_function=shutil.copyfile)
    if base_of(folder) != run.digest("base"):
        raise Invalid("the adapter belongs to another base", code="base_mismatch")
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / _WEIGHTS).items()}
    (folder / _WEIGHTS).unlink()
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    recipe = run.spec.recipe
    card = {
        "recipe": recipe.recipe,
        "recipe_digest": recipe.digest,
        "base": run.digest("base"),
        "base_id": recipe.base.id,
        "quantised_origin": recipe.base.quantised_origin,
        "adapter": run.digest("adapter"),
        "licence": recipe.base.licence,
        "dtype": "bfloat16",
    }
    (folder / "card.json").write_text(json.dumps(card, sort_keys=True, indent=1))
    check_safe(folder)
    ours, theirs = load_tokenizer(folder), load_tokenizer(base)
    rows = run.rows("train", TrainingExample)[:_COMPARED]
    for row in rows:
        prompt = [message.model_dump() for message in row.prompt]
        if token_ids(ours, render_prompt(ours, prompt)) != token_ids(theirs, render_prompt(theirs, prompt)):
            raise Invalid(f"row {row.example_id}: bundle and base tokenise it differently", code="chat_format")
    return StageResult(
        digest=run.store.put_bundle(folder),
        reason=f"{len(weights)} tensors in bfloat16",
        metrics={"bytes": float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))},
        facts={"token_ids_equal": str(len(rows)), "files": ", ".join(sorted(path.name for path in folder.iterdir()))},
    )
