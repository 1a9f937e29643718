"""Adapters that nobody may load, made from a sound one: what is changed, and what the refusal must say."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from auterity_dagster.storage.object_store import BundleManifest, ObjectStore, StoredFile

RANK, INPUT, OUTPUT = 2, 6, 4
LAYER = "model.layers.0.self_attn.q_proj"
LORA = {side: f"base_model.model.{LAYER}.lora_{side}.weight" for side in "AB"}

Files = dict[str, bytes]


@dataclass(frozen=True)
class Exploit:
    """A pickle that writes a file where it is opened."""

    path: str

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (f"open({self.path!r}, 'w').close()",)


def tensors(**changes: np.ndarray) -> dict[str, np.ndarray]:
    sound = {
        LORA["A"]: np.ones((RANK, INPUT), np.float32),
        LORA["B"]: np.ones((OUTPUT, RANK), np.float32),
    }
    return sound | changes


def configuration(base: str, **changes: object) -> bytes:
    sound = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "modules_to_save": None,
    }
    return json.dumps(sound | changes).encode()


def base_of(store: ObjectStore) -> str:
    """Store a base of one layer and return its digest."""
    weights = save({f"{LAYER}.weight": np.zeros((OUTPUT, INPUT), np.float32)})
    return stored(store, {"model.safetensors": weights, "config.json": b"{}"})


def sound_files(base: str) -> Files:
    return {
        "adapter_model.safetensors": save(tensors()),
        "adapter_config.json": configuration(base),
        "card.json": b"{}",
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
    }


def stored(store: ObjectStore, files: Mapping[str, bytes], **sizes: int) -> str:
    """Store a bundle as somebody would who writes its manifest by hand; `sizes` are what it claims, by name."""
    entries = {
        name: StoredFile(sha256=store.put_bytes(data), bytes=sizes.get(name, len(data))) for name, data in files.items()
    }
    return store.put_bytes(json.dumps(BundleManifest(files=entries).model_dump()).encode())


def header(document: object, data: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_weights(files: Files, data: bytes) -> Files:
    return files | {"adapter_model.safetensors": data}


def with_tensors(files: Files, changed: dict[str, np.ndarray]) -> Files:
    return with_weights(files, save(changed))


def with_configuration(files: Files, **changes: object) -> Files:
    base = json.loads(files["adapter_config.json"])["base_model_name_or_path"]
    return files | {"adapter_config.json": configuration(base, **changes)}


def hostile(files: Files, witness: Path) -> dict[str, tuple[Files, str]]:
    """Return every hostile variant by name, with words of its refusal; `witness` exists once a pickle was opened."""
    exploit = pickle.dumps(Exploit(str(witness)))
    one = {"dtype": "F32", "shape": [RANK, INPUT], "data_offsets": [0, RANK * INPUT * 4]}
    broken = "no safetensors file"
    nan, infinite = np.full((RANK, INPUT), np.nan, np.float32), np.full((OUTPUT, RANK), np.inf, np.float16)
    extra = tensors()[LORA["A"]]
    return {
        "a pickle beside it": (files | {"training_args.bin": exploit}, "no place"),
        "a pickle as weights": (with_weights(files, exploit), broken),
        "a pickle of torch's name": (files | {"adapter_model.pt": exploit}, "no place"),
        "code beside it": (files | {"modeling.py": b"raise SystemExit"}, "no place"),
        "a library beside it": (files | {"kernel.so": b"\x7fELF"}, "no place"),
        "a hidden file": (files | {".bashrc.json": b"{}"}, "no place"),
        "a folder inside": (files | {"deep/card.json": b"{}"}, "no place"),
        "a name that climbs out": (files | {"../../card.json": b"{}"}, "outside its folder"),
        "an absolute name": (files | {"/etc/cron.d/card.json": b"{}"}, "outside its folder"),
        "a name for another system": (files | {"..\\card.json": b"{}"}, "outside its folder"),
        "names that differ in case": (files | {"CARD.json": b"{}"}, "upper and lower case"),
        "no weights": ({name: data for name, data in files.items() if "model" not in name}, "is missing"),
        "no configuration": ({name: data for name, data in files.items() if "adapter_config" not in name}, "missing"),
        "too many files": (files | {f"{number}.json": b"{}" for number in range(40)}, "files, at most"),
        "a template of a megabyte": (files | {"chat_template.jinja": b"x" * (1 << 20)}, "at most"),
        "a tokenizer with code": (files | {"tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": "x"}}'}, "code"),
        "a configuration that is no JSON": (files | {"adapter_config.json": exploit}, "no JSON"),
        "a configuration nested too deeply": (files | {"adapter_config.json": b"[" * 200_000}, "no JSON"),
        "another kind of adapter": (with_configuration(files, peft_type="IA3"), "peft_type"),
        "a base by its path": (with_configuration(files, base_model_name_or_path="/tmp/base"), "no digest"),
        "a base from the internet": (with_configuration(files, base_model_name_or_path="evil/base"), "no digest"),
        "an import of its choice": (with_configuration(files, megatron_config={"x": 1}), "megatron_config"),
        "classes of its choice": (with_configuration(files, auto_mapping={"base_model_class": "x"}), "auto_mapping"),
        "whole modules of its own": (with_configuration(files, modules_to_save=["lm_head"]), "modules_to_save"),
        "an expression for modules": (with_configuration(files, target_modules="(a+)+$"), "target_modules"),
        "a rank that fills memory": (with_configuration(files, r=1 << 40), "rank"),
        "a header of ten gigabytes": (with_weights(files, (10 << 30).to_bytes(8, "little") + b"{}"), broken),
        "a header that lies about its length": (with_weights(files, header({LORA["A"]: one})), broken),
        "tensors that overlap": (with_weights(files, header({LORA["A"]: one, LORA["B"]: one}, bytes(48))), broken),
        "a shape beyond its bytes": (
            with_weights(files, header({LORA["A"]: one | {"shape": [1 << 20, 1 << 20]}}, bytes(48))),
            broken,
        ),
        "a negative place": (with_weights(files, header({LORA["A"]: one | {"data_offsets": [-48, 0]}})), broken),
        "bytes after the last tensor": (with_weights(files, save(tensors()) + b"#!/bin/sh"), broken),
        "a wrong shape": (with_tensors(files, tensors(**{LORA["A"]: np.ones((RANK, INPUT + 1), np.float32)})), "shape"),
        "another rank than it says": (with_configuration(files, r=RANK + 1), "shape"),
        "half of a pair": (with_tensors(files, {LORA["A"]: extra}), "counterpart"),
        "a layer that the base lacks": (
            with_tensors(files, tensors(**{LORA["A"].replace("layers.0", "layers.9"): extra})),
            "no layer",
        ),
        "a tensor that replaces a layer": (
            with_tensors(files, tensors(**{f"base_model.model.{LAYER}.weight": np.ones((OUTPUT, INPUT), np.float32)})),
            "no layer",
        ),
        "no tensors": (with_weights(files, save({})), "no tensors"),
        "a weight that is no number": (with_tensors(files, tensors(**{LORA["A"]: nan})), "finite"),
        "an infinite weight": (with_tensors(files, tensors(**{LORA["B"]: infinite})), "finite"),
        "whole numbers as weights": (
            with_tensors(files, tensors(**{LORA["A"]: np.ones((RANK, INPUT), np.int64)})),
            "is of type",
        ),
    }
