"""Which rows train and which test: by customer, so that nobody's words are in both.

Customers who share a conversation, a vehicle or a lead form one group, and a group is in one split.
"""

import hashlib
from collections.abc import Mapping, Sequence

from auterity_dagster.neuroweaver.example import GroupKeys, Split, TrainingExample

_STRICTNESS = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}


def assigned(
    rows: Sequence[TrainingExample], *, salt: str, previous: Mapping[str, Split]
) -> tuple[TrainingExample, ...]:
    """Return the rows with their split: 80, 10 and 10 % of the customers.

    A group takes the strictest split of its members (test before validation before train). `previous` holds the split
    that customers had in the dataset's last version: new rows move a customer towards test only, never back.
    """
    groups = _Groups()
    for row in rows:
        first, *others = _keys(row.group_keys)
        for other in others:
            groups.join(first, other)
    strictest: dict[str, Split] = {}
    for customer in {row.group_keys.customer for row in rows}:
        group = groups.root(f"customer:{customer}")
        wished = [_hashed(salt, customer), previous.get(customer, Split.TRAIN), strictest.get(group, Split.TRAIN)]
        strictest[group] = max(wished, key=lambda split: _STRICTNESS[split])
    return tuple(
        row.model_copy(update={"split": strictest[groups.root(f"customer:{row.group_keys.customer}")]}) for row in rows
    )


def shared_keys(rows: Sequence[TrainingExample]) -> tuple[str, ...]:
    """Return every group key that rows of different splits share; a sound dataset has none."""
    splits: dict[str, set[Split | None]] = {}
    for row in rows:
        for key in _keys(row.group_keys):
            splits.setdefault(key, set()).add(row.split)
    return tuple(sorted(key for key, found in splits.items() if len(found) > 1))


def _keys(keys: GroupKeys) -> list[str]:
    named = {"conversation": keys.conversation, "vehicle": keys.vehicle, "lead": keys.lead}
    return [f"customer:{keys.customer}", *(f"{kind}:{key}" for kind, key in named.items() if key is not None)]


def _hashed(salt: str, customer: str) -> Split:
    share = int.from_bytes(hashlib.sha256(f"{salt}:{customer}".encode()).digest()[:8]) / 2**64
    if share < 0.8:
        return Split.TRAIN
    return Split.VALIDATION if share < 0.9 else Split.TEST


class _Groups:
    """Union-find over group keys."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def root(self, key: str) -> str:
        self._parents.setdefault(key, key)
        while self._parents[key] != key:
            self._parents[key] = self._parents[self._parents[key]]
            key = self._parents[key]
        return key

    def join(self, first: str, second: str) -> None:
        self._parents[self.root(first)] = self.root(second)
