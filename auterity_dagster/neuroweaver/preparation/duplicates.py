"""Rows that say the same: exact ones by folded text, near ones by MinHash, confirmed by exact Jaccard similarity.

Digits are kept when texts are folded: two replies that differ in a price only are two rows, for the price is the fact.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.neuroweaver.example import TrainingExample

SHINGLE_WORDS = 5
PERMUTATIONS = 128
BANDS = 16
NEAR = 0.8

_PRIME = (1 << 31) - 1
_LABEL_RANK = {"edited": 0, "accepted": 1, "outcome_good": 1, "none": 2}


class Deduplicated(NamedTuple):
    """The rows that stay, in their old order, and how many went for which reason."""

    rows: tuple[TrainingExample, ...]
    exact: int
    near: int


def without_duplicates(rows: Sequence[TrainingExample]) -> Deduplicated:
    """Keep the best row of each set of equal or near-equal ones: edited before accepted before unlabelled."""
    order = sorted(range(len(rows)), key=lambda at: (_LABEL_RANK[rows[at].label], rows[at].example_id))
    seen: set[str] = set()
    distinct: list[int] = []
    for at in order:
        text = folded(rows[at])
        if text not in seen:
            seen.add(text)
            distinct.append(at)
    kept = _without_near([shingles(folded(rows[at])) for at in distinct])
    staying = {distinct[at] for at in kept}
    return Deduplicated(
        rows=tuple(row for at, row in enumerate(rows) if at in staying),
        exact=len(rows) - len(distinct),
        near=len(distinct) - len(kept),
    )


def folded(row: TrainingExample) -> str:
    """Return a row's text, lower case, white space folded, without the system message, which is one for all."""
    return " ".join(" ".join(message.content for message in row.messages[1:]).lower().split())


def shingles(text: str) -> frozenset[str]:
    """Return every five words in a row; a shorter text is one shingle."""
    words = text.split()
    if len(words) <= SHINGLE_WORDS:
        return frozenset([text])
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the share of shingles that two texts have in common."""
    return len(first & second) / len(first | second)


def _without_near(texts: Sequence[frozenset[str]]) -> list[int]:
    multipliers, offsets = _permutations()
    buckets: dict[bytes, list[int]] = {}
    kept: list[int] = []
    for at, text in enumerate(texts):
        bands = _bands(text, multipliers, offsets)
        candidates = {other for band in bands for other in buckets.get(band, ())}
        if any(jaccard(text, texts[other]) >= NEAR for other in candidates):
            continue
        kept.append(at)
        for band in bands:
            buckets.setdefault(band, []).append(at)
    return kept


def _permutations() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    random = np.random.default_rng(20260801)  # part of the algorithm: the same rows must always stay
    multipliers = random.integers(1, _PRIME, size=PERMUTATIONS, dtype=np.uint64)
    return multipliers, random.integers(0, _PRIME, size=PERMUTATIONS, dtype=np.uint64)


def _bands(text: frozenset[str], multipliers: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> list[bytes]:
    # 31-bit hashes times 31-bit multipliers stay below 2**63: no overflow in 64 bits.
    hashes = np.array([_hash(shingle) for shingle in text], dtype=np.uint64)
    signature = ((hashes[:, None] * multipliers + offsets) % np.uint64(_PRIME)).min(axis=0)
    rows = PERMUTATIONS // BANDS
    return [bytes([band]) + signature[band * rows : (band + 1) * rows].tobytes() for band in range(BANDS)]


def _hash(shingle: str) -> int:
    return int.from_bytes(hashlib.blake2b(shingle.encode(), digest_size=4).digest()) & _PRIME
