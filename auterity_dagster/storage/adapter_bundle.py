"""Whether a stored adapter may be loaded: decided from its bytes, before any library that could run them sees it.

An adapter is safetensors, JSON and one template. A pickle under another name, a tensor whose place or shape is another
than its base's, a weight that is no number, a configuration that would import something: each is refused by name.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, cast

import numpy as np

from auterity_dagster.errors import Invalid
from auterity_dagster.storage.object_store import BundleManifest, ObjectStore
from auterity_dagster.storage.safetensors_header import Tensor, read_header

WEIGHTS, CONFIGURATION = "adapter_model.safetensors", "adapter_config.json"
SIZE_LIMITS: Mapping[str, int] = {".safetensors": 2 << 30, ".json": 64 << 20, ".jinja": 64 << 10}
FILES_LIMIT = 32
RANK_LIMIT = 512
_BASE_NAME = re.compile(r"[0-9a-f]{64}")
_MODULE = re.compile(r"[A-Za-z0-9_.]{1,128}")
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MUST_BE_EMPTY = (
    *("auto_mapping", "megatron_config", "layer_replication", "modules_to_save", "trainable_token_indices"),
    *("target_parameters", "layers_pattern", "exclude_modules"),
)
"""Settings by which an adapter would reach beyond its own low-rank matrices, or have a module imported."""

_EXPONENT = {"BF16": (np.dtype("<u2"), 0x7F80), "F16": (np.dtype("<u2"), 0x7C00), "F32": (np.dtype("<u4"), 0x7F800000)}
_CHUNK = 1 << 22


def check_adapter(store: ObjectStore, digest: str) -> None:
    """Raise `Invalid` unless the bundle is an adapter that may be loaded on the base that it names.

    Codes: `unsafe_bundle` with the reason, `digest_mismatch` for changed bytes; `NotFound` where bytes are missing.
    """
    manifest = check_files(store, digest)
    for name in (WEIGHTS, CONFIGURATION):
        if name not in manifest.files:
            raise _unsafe(digest, f"{name} is missing")
    configuration = _json(store, manifest, CONFIGURATION)
    rank = _check_configuration(digest, configuration)
    base = _base_shapes(store, str(configuration["base_model_name_or_path"]))
    with store.open_verified(manifest.files[WEIGHTS].sha256) as file:
        tensors = read_header(file, size=manifest.files[WEIGHTS].bytes)
        _check_tensors(digest, tensors, base, rank=rank)
        _check_numbers(digest, file, tensors)


def check_files(store: ObjectStore, digest: str) -> BundleManifest:
    """Return a bundle's manifest if it holds nothing but files of a model, of names and sizes that one may have."""
    manifest = store.manifest(digest)
    if not 0 < len(manifest.files) <= FILES_LIMIT:
        raise _unsafe(digest, f"{len(manifest.files)} files, at most {FILES_LIMIT} are allowed")
    for name, file in manifest.files.items():
        limit = SIZE_LIMITS.get(f".{name.rpartition('.')[2]}")
        if "/" in name or name.startswith(".") or limit is None:
            raise _unsafe(digest, f"{name!r} has no place in a model's bundle: only {', '.join(SIZE_LIMITS)}")
        if file.bytes > limit:
            raise _unsafe(digest, f"{name} has {file.bytes} bytes, at most {limit} are allowed")
    folded = [name.casefold() for name in manifest.files]
    if len(set(folded)) < len(folded):
        raise _unsafe(digest, "two files differ only in upper and lower case")
    if "tokenizer_config.json" in manifest.files and "auto_map" in _json(store, manifest, "tokenizer_config.json"):
        raise _unsafe(digest, "tokenizer_config.json names code of its own (auto_map)")
    return manifest


def _check_configuration(digest: str, configuration: Mapping[str, Any]) -> int:
    if configuration.get("peft_type") != "LORA":
        raise _unsafe(digest, f"peft_type is {configuration.get('peft_type')!r}, only LORA is served")
    if not _BASE_NAME.fullmatch(str(configuration.get("base_model_name_or_path"))):
        raise _unsafe(digest, "base_model_name_or_path is no digest of a base")
    reaching = [name for name in _MUST_BE_EMPTY if configuration.get(name)]
    if reaching:
        raise _unsafe(digest, f"adapter_config.json sets {reaching[0]}, which no adapter of ours does")
    modules = configuration.get("target_modules")
    names = cast("list[object]", modules) if isinstance(modules, list) else [None]
    if not all(isinstance(one, str) and _MODULE.fullmatch(one) for one in names):
        raise _unsafe(digest, "target_modules is no list of names")
    rank = configuration.get("r")
    if type(rank) is not int or not 1 <= rank <= RANK_LIMIT:
        raise _unsafe(digest, f"the rank is {rank!r}, 1 to {RANK_LIMIT} are allowed")
    return rank


def _base_shapes(store: ObjectStore, digest: str) -> dict[str, tuple[int, ...]]:
    manifest = store.manifest(digest)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, file in manifest.files.items():
        if name.endswith(".safetensors"):
            with store.open_verified(file.sha256) as opened:
                shapes |= {key: one.shape for key, one in read_header(opened, size=file.bytes).items()}
    return shapes


def _check_tensors(
    digest: str, tensors: Mapping[str, Tensor], base: Mapping[str, tuple[int, ...]], *, rank: int
) -> None:
    """Each matrix must stand at a layer of the base, and be as wide or as high as that layer is."""
    if not tensors:
        raise _unsafe(digest, "there are no tensors")
    for name, tensor in tensors.items():
        found = _TENSOR.fullmatch(name)
        layer = base.get(f"{found['module']}.weight") if found else None
        if found is None or layer is None or len(layer) != 2:
            raise _unsafe(digest, f"the base has no layer for the tensor {name[:200]!r}")
        wanted = (rank, layer[1]) if found["side"] == "A" else (layer[0], rank)
        if tensor.shape != wanted:
            raise _unsafe(digest, f"{name} has the shape {tensor.shape}, its layer needs {wanted}")
        other = name.replace(f".lora_{found['side']}.", ".lora_B." if found["side"] == "A" else ".lora_A.")
        if other not in tensors:
            raise _unsafe(digest, f"{name} has no counterpart")


def _check_numbers(digest: str, file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in _EXPONENT:
            raise _unsafe(digest, f"{name} is of type {tensor.dtype}, only {', '.join(_EXPONENT)} are served")
        dtype, exponent = _EXPONENT[tensor.dtype]
        for data in _chunks(file, tensor):
            # All bits of the exponent are set in what is infinite or no number, and in nothing else.
            if bool(((np.frombuffer(data, dtype) & exponent) == exponent).any()):
                raise _unsafe(digest, f"{name} holds a weight that is no finite number")


def _chunks(file: BinaryIO, tensor: Tensor) -> Iterator[bytes]:
    file.seek(tensor.begin)
    left = tensor.end - tensor.begin
    while left:
        data = file.read(min(left, _CHUNK))
        left -= len(data)
        yield data


def _json(store: ObjectStore, manifest: BundleManifest, name: str) -> Mapping[str, Any]:
    try:
        document = json.loads(store.read_verified(manifest.files[name].sha256))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Invalid(f"{name} is no JSON", code="unsafe_bundle") from error
    if not isinstance(document, dict):
        raise Invalid(f"{name} is no JSON object", code="unsafe_bundle")
    return cast("Mapping[str, Any]", document)


def _unsafe(digest: str, reason: str) -> Invalid:
    return Invalid(f"the adapter {digest[:12]} is not loaded: {reason}", code="unsafe_bundle")
