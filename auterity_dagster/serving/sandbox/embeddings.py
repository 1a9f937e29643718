"""The sandbox's embeddings: a unit vector that follows from the text alone, written as numbers or as base64."""

import base64
import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from auterity_dagster.errors import Invalid
from auterity_dagster.serving.sandbox import tokenizer
from auterity_dagster.serving.sandbox.bill import EMBEDDING_MODELS

DEFAULT_DIMENSIONS = 64
MAX_DIMENSIONS = 256


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of a request, and what its texts count."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int
    is_base64: bool


def embed(body: Mapping[str, Any], *, seed: int) -> Embedded:
    """Return a vector a text. Raises `Invalid` for an unknown model or no texts."""
    if body.get("model") not in EMBEDDING_MODELS:
        raise Invalid(
            f"the sandbox embeds with {' and '.join(EMBEDDING_MODELS)}", code="model_not_found", field="model"
        )
    texts = _texts(body.get("input"))
    dimensions = int(body.get("dimensions") or DEFAULT_DIMENSIONS)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise Invalid(f"dimensions lie between 1 and {MAX_DIMENSIONS}", field="dimensions")
    return Embedded(
        vectors=tuple(_vector(str(text), dimensions, seed=seed) for text in texts),
        prompt_tokens=sum(tokenizer.count(one) if isinstance(one, str) else len(one) for one in texts),
        is_base64=body.get("encoding_format") == "base64",
    )


def answer(model: str, embedded: Embedded, *, with_usage: bool) -> dict[str, Any]:
    """Return the whole answer."""
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(one) if embedded.is_base64 else one}
        for index, one in enumerate(embedded.vectors)
    ]
    usage = {"prompt_tokens": embedded.prompt_tokens, "total_tokens": embedded.prompt_tokens}
    return {"object": "list", "model": model, "data": data} | ({"usage": usage} if with_usage else {})


def _texts(given: Any) -> Sequence[str | Sequence[int]]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        return [given] if isinstance(given[0], int) else given
    raise Invalid("input is a text or a list that is not empty", field="input")


def _vector(text: str, dimensions: int, *, seed: int) -> tuple[float, ...]:
    digest = hashlib.shake_256(f"{seed}|{text}".encode()).digest(2 * dimensions)
    numbers = [int.from_bytes(digest[place : place + 2]) - 32767.5 for place in range(0, 2 * dimensions, 2)]
    length = math.sqrt(sum(number * number for number in numbers))
    return tuple(number / length for number in numbers)


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
