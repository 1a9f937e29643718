"""Rows that say the same: exact ones by folded text, near ones by MinHash, confirmed by exact Jaccard similarity.

Digits are kept when texts are folded: two replies that differ in a price only are two rows, for the price is the fact.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.neuroweaver.example import TrainingExample

SHINGLE_WORDS = 5
PERMUTATIONS = 128
BANDS = 16
NEAR = 0.8

_PRIME = (1 << 31) - 1
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that every word of a shingle counts in all 64 bits
_ALONE = -1
_LABEL_RANK = {"edited": 0, "accepted": 1, "outcome_good": 1, "none": 2}

Hashes = NDArray[np.uint64]


class Kept(NamedTuple):
    """Positions of the rows that stay, ascending, and how many went for which reason."""

    positions: tuple[int, ...]
    exact: int
    near: int


class Twin(NamedTuple):
    """Two texts that say the same: their positions, and whether they are equal."""

    first: int
    second: int
    is_exact: bool


class Fingerprints:
    """Texts as sets of hashed shingles: 200 bytes a text in memory, the shingles in an unnamed file in `folder`."""

    def __init__(self, folder: Path | None) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - `close` does
        self._places: list[tuple[int, int]] = []
        self._digests: list[bytes] = []
        self._bands: list[Hashes] = []
        self._at = 0
        random = np.random.default_rng(20260801)  # part of the algorithm: the same rows must always stay
        self._multipliers = random.integers(1, _PRIME, size=PERMUTATIONS, dtype=np.uint64)
        self._offsets = random.integers(0, _PRIME, size=PERMUTATIONS, dtype=np.uint64)
        self._mixers = random.integers(1, 1 << 63, size=PERMUTATIONS // BANDS, dtype=np.uint64)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def add(self, text: str) -> None:
        """Take the next text, already folded."""
        hashes = shingle_hashes(text)
        data = hashes.tobytes()
        self._file.write(data)
        self._places.append((self._at, len(data)))
        self._at += len(data)
        self._digests.append(hashlib.blake2b(text.encode(), digest_size=16).digest())
        # 31-bit hashes times 31-bit multipliers stay below 2**63: no overflow in 64 bits.
        signature = (((hashes % _PRIME)[:, None] * self._multipliers + self._offsets) % np.uint64(_PRIME)).min(axis=0)
        self._bands.append((signature.reshape(BANDS, -1) * self._mixers).sum(axis=1, dtype=np.uint64))

    def kept(self, order: Sequence[int]) -> Kept:
        """Walk the texts in `order`, best first, and keep each that nothing kept before it is a twin of."""
        seen: set[bytes] = set()
        distinct: list[int] = []
        for position in order:
            if self._digests[position] not in seen:
                seen.add(self._digests[position])
                distinct.append(position)
        kept: list[int] = []
        members: dict[int, list[int]] = {}
        groups = self._groups()
        for position in distinct:
            own = [group for group in groups[position].tolist() if group != _ALONE]
            candidates = {other for group in own for other in members.get(group, ())}
            if self._first_near(position, candidates) is not None:
                continue
            kept.append(position)
            for group in own:
                members.setdefault(group, []).append(position)
        return Kept(tuple(sorted(kept)), exact=len(order) - len(distinct), near=len(distinct) - len(kept))

    def twins(self, sides: Sequence[object]) -> Iterator[Twin]:
        """Yield for each text one twin that stands before it on another side (`sides` has one value a text)."""
        members: dict[int, list[int]] = {}
        by_digest: dict[bytes, list[int]] = {}
        for position, own in enumerate(self._groups().tolist()):
            shared = [group for group in own if group != _ALONE]
            equal = by_digest.setdefault(self._digests[position], [])
            exact = next((other for other in equal if sides[other] != sides[position]), None)
            if exact is not None:
                yield Twin(exact, position, is_exact=True)
            else:
                candidates = {
                    other for group in shared for other in members.get(group, ()) if sides[other] != sides[position]
                }
                if (near := self._first_near(position, candidates)) is not None:
                    yield Twin(near, position, is_exact=False)
            equal.append(position)
            for group in shared:
                members.setdefault(group, []).append(position)

    def _groups(self) -> NDArray[np.int64]:
        """Return, a text and band, the number of its bucket, or -1 where no other text is in it."""
        if not self._bands:
            return np.zeros((0, BANDS), dtype=np.int64)
        bands = np.stack(self._bands)
        groups = np.full(bands.shape, _ALONE, dtype=np.int64)
        first_free = 0
        for band in range(BANDS):
            _, bucket, counts = np.unique(bands[:, band], return_inverse=True, return_counts=True)
            groups[:, band] = np.where(counts[bucket] > 1, bucket + first_free, _ALONE)
            first_free += len(counts)
        return groups

    def _first_near(self, position: int, candidates: set[int]) -> int | None:
        if not candidates:
            return None
        own = set(self._shingles(position).tolist())
        for other in sorted(candidates):
            sizes = (len(own), self._places[other][1] // 8)
            if min(sizes) < NEAR * max(sizes):
                continue
            shared = sum(one in own for one in self._shingles(other).tolist())
            if shared >= NEAR * (sum(sizes) - shared):
                return other
        return None

    def _shingles(self, position: int) -> Hashes:
        start, size = self._places[position]
        self._file.seek(start)
        return np.frombuffer(self._file.read(size), dtype=np.uint64)


def label_rank(label: str) -> int:
    """Return how much a row is vouched for, best first: edited, accepted or borne out, unlabelled."""
    return _LABEL_RANK[label]


def folded(row: TrainingExample) -> str:
    """Return a row's text, lower case, white space folded, without the system message, which is one for all."""
    return " ".join(" ".join(message.content for message in row.messages[1:]).lower().split())


def shingles(text: str) -> frozenset[str]:
    """Return every five words in a row; a shorter text is one shingle."""
    words = text.split()
    if len(words) <= SHINGLE_WORDS:
        return frozenset([text])
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1))


def shingle_hashes(text: str) -> Hashes:
    """Return the shingles of a text as distinct 64-bit hashes, ascending; a shorter text is one shingle."""
    words = np.array([_word_hash(word) for word in text.split()] or [0], dtype=np.uint64)
    if len(words) <= SHINGLE_WORDS:
        return np.array([_word_hash(text)], dtype=np.uint64)
    hashes = np.zeros(len(words) - SHINGLE_WORDS + 1, dtype=np.uint64)
    for at in range(SHINGLE_WORDS):
        hashes = hashes * _STEP + words[at : at + len(hashes)]
    return np.unique(hashes)


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the share of shingles that two texts have in common."""
    return len(first & second) / len(first | second)


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
