"""Bases and adapters in memory: verified file by file when loaded, each adapter merged into a copy of its base."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from auterity_dagster.decoding.rows import prepared
from auterity_dagster.storage.adapter_bundle import check_adapter, check_files
from auterity_dagster.storage.object_store import ObjectStore

STOP = "<|im_end|>"
PAD = "<|endoftext|>"


MODELS_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Loaded:
    """One servable model: the network in bfloat16 and its tokenizer."""

    network: Any
    tokenizer: PreTrainedTokenizerBase
    context_tokens: int


@dataclass
class LoadedModels:
    """What this process holds; only the one generation thread changes it."""

    store: ObjectStore
    _models: dict[str, Loaded] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The models that are in memory now."""
        return tuple(self._models)

    def load(self, model: str) -> Loaded:
        """Return a model by `base:<digest>` or `adapter:<digest>`, loading it after verifying every file.

        Raises `NotFound` when the store lacks it, and `Invalid` when bytes changed or a file has no place in a bundle.
        """
        loaded = self._models.pop(model, None)
        if loaded is None:
            kind, _, digest = model.partition(":")
            loaded = self._load_base(digest) if kind == "base" else self._load_adapter(digest)
        # Kept in the order of use: the one that was used longest ago makes room.
        self._models[model] = loaded
        while len(self._models) > MODELS_LIMIT:
            del self._models[next(iter(self._models))]
        return loaded

    def _load_base(self, digest: str) -> Loaded:
        folder = self._checked(digest)
        return _loaded(_network(folder, torch.bfloat16), folder)

    def _load_adapter(self, digest: str) -> Loaded:
        check_adapter(self.store, digest)
        folder = self._checked(digest)
        base_digest = str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
        wide = _network(self._checked(base_digest), torch.float32)
        # Merged in float32 and rounded once, exactly as evaluation did: the same weights, the same answers.
        adapted: Any = PeftModel.from_pretrained(wide, str(folder), local_files_only=True)
        return _loaded(adapted.merge_and_unload(safe_merge=True).to(torch.bfloat16), folder)

    def _checked(self, digest: str) -> Path:
        check_files(self.store, digest)
        return self.store.checkout(digest)


def _network(folder: Path, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )


def served_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer and chat template that a bundle brings; they decide what a served prompt's ids are."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.pad_token, tokenizer.eos_token = PAD, STOP
    return tokenizer


def _loaded(network: Any, folder: Path) -> Loaded:
    return Loaded(prepared(network), served_tokenizer(folder), int(network.config.max_position_embeddings))
