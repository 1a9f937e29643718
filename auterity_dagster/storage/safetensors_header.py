"""The header of a safetensors file, read by hand and believed in nothing: names, types, shapes, places.

Source: https://github.com/huggingface/safetensors, "Format": eight bytes of length (little endian), JSON, then data
without gaps.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, cast

from auterity_dagster.errors import Invalid

HEADER_LIMIT = 16 << 20
_LENGTH_BYTES = 8
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its type as the format names it, and where in the file its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(file: BinaryIO, *, size: int) -> dict[str, Tensor]:
    """Return the tensors of a file of `size` bytes by name. Raises `Invalid(code="unsafe_bundle")` for another."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if not 2 <= length <= min(HEADER_LIMIT, size - _LENGTH_BYTES):
        raise _broken(f"a header of {length} bytes")
    try:
        document = json.loads(file.read(length))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _broken("no header of JSON") from error
    if not isinstance(document, dict):
        raise _broken("no header of JSON")
    entries = cast("dict[str, Any]", document)
    start = _LENGTH_BYTES + length
    tensors = {name: _tensor(name, entry, start) for name, entry in entries.items() if name != "__metadata__"}
    placed = sorted(tensors.values(), key=lambda one: (one.begin, one.end))
    ends = [start, *(one.end for one in placed)]
    if any(one.begin != end for one, end in zip(placed, ends, strict=False)) or ends[-1] != size:
        raise _broken("tensors that overlap, leave gaps or end elsewhere than the file")
    return tensors


def _tensor(name: str, entry: object, start: int) -> Tensor:
    fields = cast("Mapping[str, object]", entry if isinstance(entry, dict) else {})
    dtype, shape, offsets = fields.get("dtype"), _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BYTES or shape is None or offsets is None or len(offsets) != 2:
        raise _broken(f"a tensor {name[:200]!r} without a known type, shape or place")
    if offsets[1] - offsets[0] != prod(shape) * _BYTES[dtype]:
        raise _broken(f"a tensor {name[:200]!r} whose bytes do not fit its shape")
    return Tensor(dtype, shape, start + offsets[0], start + offsets[1])


def _sizes(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    sizes = tuple(one for one in cast("list[object]", value) if type(one) is int and 0 <= one < 1 << 48)
    return sizes if len(sizes) == len(cast("list[object]", value)) else None


def _broken(what: str) -> Invalid:
    return Invalid(f"the file is no safetensors file: {what}", code="unsafe_bundle")
