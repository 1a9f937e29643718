"""Which rows train and which test: by customer, so that nobody's words are in both.

Customers who share a conversation, a vehicle or a lead form one group, and a group is in one split.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from auterity_dagster.neuroweaver.example import GroupKeys, Split, TrainingExample

RECENT = timedelta(days=14)
_RECENT_SHARE = 1 / 3
_STRICTNESS = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}


def customer_splits(
    rows: Sequence[GroupKeys], *, salt: str, previous: Mapping[str, Split], held_out: Iterable[str] = ()
) -> Mapping[str, Split]:
    """Return every customer's split: 80, 10 and 10 % of them, and to the test those `held_out`.

    A group takes the strictest split of its members (test before validation before train). `previous` holds the split
    that customers had in the dataset's last version: new rows move a customer towards test only, never back.
    """
    groups = _Groups()
    for row in rows:
        first, *others = keys_of(row)
        for other in others:
            groups.join(first, other)
    testing = frozenset(held_out)
    strictest: dict[str, Split] = {}
    customers = {row.customer for row in rows}
    for customer in customers:
        group = groups.root(f"customer:{customer}")
        own = Split.TEST if customer in testing else _hashed(salt, customer)
        wished = [own, previous.get(customer, Split.TRAIN), strictest.get(group, Split.TRAIN)]
        strictest[group] = max(wished, key=lambda split: _STRICTNESS[split])
    return {customer: strictest[groups.root(f"customer:{customer}")] for customer in customers}


def assigned(
    rows: Sequence[TrainingExample], *, salt: str, previous: Mapping[str, Split]
) -> tuple[TrainingExample, ...]:
    """Return the rows with their split."""
    splits = customer_splits([row.group_keys for row in rows], salt=salt, previous=previous)
    return tuple(row.model_copy(update={"split": splits[row.group_keys.customer]}) for row in rows)


def recent_since(times: Sequence[datetime]) -> datetime | None:
    """Return when the last 14 days of the rows begin; None if more than a third of the rows are that young."""
    if not times:
        return None
    since = max(times) - RECENT
    return since if sum(time >= since for time in times) <= _RECENT_SHARE * len(times) else None


def shared_keys(rows: Iterable[tuple[GroupKeys, Split | None]]) -> tuple[str, ...]:
    """Return every group key that rows of different splits share; a sound dataset has none."""
    splits: dict[str, Split | None] = {}
    shared: set[str] = set()
    for keys, split in rows:
        for key in keys_of(keys):
            if splits.setdefault(key, split) is not split:
                shared.add(key)
    return tuple(sorted(shared))


def keys_of(keys: GroupKeys) -> list[str]:
    """Return a row's group keys with their kinds, the customer's first."""
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
