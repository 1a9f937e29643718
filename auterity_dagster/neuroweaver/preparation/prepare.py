"""From source rows to a dataset: scrub, deduplicate, score, split, decontaminate, and count what each step did.

Rows pass through one at a time: what has to be compared stays in memory (two kilobytes a row), what is long waits
in unnamed files.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import (
    EvaluationItem,
    Family,
    GroupKeys,
    Source,
    Split,
    TrainingExample,
    example_id,
)
from auterity_dagster.neuroweaver.jsonl import canonical_json
from auterity_dagster.neuroweaver.preparation.contamination import Guarded
from auterity_dagster.neuroweaver.preparation.duplicates import Fingerprints, folded, label_rank
from auterity_dagster.neuroweaver.preparation.quality import is_good_enough, quality
from auterity_dagster.neuroweaver.preparation.scrub import scrub
from auterity_dagster.neuroweaver.preparation.split import customer_splits, recent_since
from auterity_dagster.neuroweaver.preparation.statistics import Lengths, Spread

PROGRESS_ROWS = 5_000
Row = TypeVar("Row")

Progress = Callable[[str, int], None]
"""Told which step has done how many rows, every 5,000 rows."""


@dataclass(frozen=True, slots=True)
class PreparationPolicy:
    """What a dataset must have. `salt` decides who is in which split, `key` makes new VIN serials; both are secrets.

    The customers of `held_out_dealership` test only.
    """

    salt: str
    key: bytes
    min_train_rows: int = 200
    min_family_rows: int = 20
    held_out_dealership: UUID | None = None


class DatasetCard(BaseModel):
    """What is in a dataset and how it came about, in numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_digest: str
    is_synthetic: bool
    sources: Mapping[str, int]
    licences: tuple[str, ...]
    rows_in: int
    personal_data_replaced: Mapping[str, int]
    duplicates_exact: int
    duplicates_near: int
    low_quality: int
    withheld_recent: int
    held_out_since: datetime | None
    contaminated: int
    splits: Mapping[str, int]
    train_families: Mapping[str, int]
    mean_quality: float
    lengths: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A dataset: every row carries its split; `card` is its description."""

    rows: tuple[TrainingExample, ...]
    card: DatasetCard

    def split(self, split: Split) -> tuple[TrainingExample, ...]:
        """Return the rows of one split, in order."""
        return tuple(row for row in self.rows if row.split is split)


class _Held(NamedTuple):
    """What is remembered of a row while it waits in the file."""

    place: int
    example_id: str
    group_keys: GroupKeys
    dealership_id: UUID | None
    source: Source
    label_rank: int
    created_at: datetime
    quality: float
    is_good: bool


def prepare(
    rows: Iterable[TrainingExample],
    *,
    items: Sequence[EvaluationItem],
    policy: PreparationPolicy,
    names: Mapping[str, tuple[str, ...]],
    previous_splits: Mapping[str, Split],
) -> Prepared:
    """Prepare as many rows as fit in memory; see `prepare_stream`."""
    kept: list[TrainingExample] = []
    card = prepare_stream(
        rows,
        items=items,
        policy=policy,
        names=names,
        previous_splits=previous_splits,
        folder=None,
        take=kept.append,
        progress=lambda _step, _done: None,
    )
    return Prepared(tuple(kept), card)


def prepare_stream(
    rows: Iterable[TrainingExample],
    *,
    items: Iterable[EvaluationItem],
    policy: PreparationPolicy,
    names: Mapping[str, tuple[str, ...]],
    previous_splits: Mapping[str, Split],
    folder: Path | None,
    take: Callable[[TrainingExample], None],
    progress: Progress,
) -> DatasetCard:
    """Prepare validated rows for training; `take` gets each row of the dataset, in the order they came.

    `items` are all suites and gold items that must not be given away; `names` are the names of each customer key's
    record; the unnamed files are in `folder`. Only train rows are decontaminated: test rows are never trained on.
    Raises `Invalid` with code `not_enough_rows` after the last row when too few train rows are left, in all or in a
    family: what `take` got is then no dataset.
    """
    with TemporaryFile(dir=folder) as waiting:
        counts: Counter[str] = Counter()
        held: list[_Held] = []
        fingerprints = Fingerprints(folder)
        for row in _told(rows, "scrubbed", progress):
            clean = scrub(row.messages, names=names.get(row.group_keys.customer, ()), key=policy.key)
            counts.update(clean.counts)
            if clean.counts:
                changes = {"messages": clean.messages, "example_id": example_id(clean.messages, row.tools)}
                row = row.model_copy(update=changes)
            fingerprints.add(folded(row))
            place = waiting.tell()
            waiting.write(row.model_dump_json().encode() + b"\n")
            held.append(_remembered(row, place))
        order = sorted(range(len(held)), key=lambda at: (held[at].label_rank, -held[at].quality, held[at].example_id))
        distinct = fingerprints.kept(order)
        fingerprints.close()
        progress("deduplicated", len(held))
        good = [held[at] for at in distinct.positions if held[at].is_good]
        dataset = _Dataset(good, policy, previous_splits, Guarded(items))
        for one in _told(good, "written", progress):
            waiting.seek(one.place)
            dataset.pass_on(one, TrainingExample.model_validate_json(waiting.readline()), take)
    dataset.check_numbers()
    return DatasetCard(
        dataset_digest=dataset.digest(),
        is_synthetic=dataset.sources["synthetic"] > 0,
        sources=dict(dataset.sources),
        licences=tuple(sorted(dataset.licences)),
        rows_in=len(held),
        personal_data_replaced=dict(sorted(counts.items())),
        duplicates_exact=distinct.exact,
        duplicates_near=distinct.near,
        low_quality=len(distinct.positions) - len(good),
        withheld_recent=dataset.withheld,
        held_out_since=dataset.since,
        contaminated=dataset.contaminated,
        splits={str(split): count for split, count in dataset.splits.items()},
        train_families={family.value: count for family, count in dataset.families.items()},
        mean_quality=round(dataset.quality_sum / max(dataset.rows, 1), 4),
        lengths=dataset.lengths.spreads(),
    )


class _Dataset:
    """Decides for each good row whether it is in the dataset and in which split, and counts."""

    def __init__(
        self,
        good: Sequence[_Held],
        policy: PreparationPolicy,
        previous: Mapping[str, Split],
        guarded: Guarded,
    ) -> None:
        self._policy, self._guarded = policy, guarded
        self._splits = customer_splits(
            [one.group_keys for one in good],
            salt=policy.salt,
            previous=previous,
            held_out=(
                one.group_keys.customer
                for one in good
                if one.dealership_id is not None and one.dealership_id == policy.held_out_dealership
            ),
        )
        self.since = recent_since([one.created_at for one in good if one.source != "synthetic"])
        self.rows = self.withheld = self.contaminated = 0
        self.quality_sum = 0.0
        self.sources: Counter[str] = Counter()
        self.splits: Counter[Split] = Counter()
        self.families: Counter[Family] = Counter()
        self.licences: set[str] = set()
        self.lengths = Lengths()
        self._address = hashlib.sha256(b"[")

    def pass_on(self, held: _Held, row: TrainingExample, take: Callable[[TrainingExample], None]) -> None:
        split = self._splits[held.group_keys.customer]
        if split is not Split.TEST and self._is_recent(held):
            self.withheld += 1
            return
        if split is Split.TRAIN and self._guarded.is_given_away_by(row):
            self.contaminated += 1
            return
        self._address.update((b"," if self.rows else b"") + canonical_json([row.example_id, split]).encode())
        self.rows += 1
        self.quality_sum += held.quality
        self.sources[row.source] += 1
        self.splits[split] += 1
        self.licences.add(row.licence)
        self.lengths.add(row)
        if split is Split.TRAIN:
            self.families[row.family] += 1
        take(row.model_copy(update={"quality": held.quality, "split": split}))

    def digest(self) -> str:
        """Return SHA-256 over the canonical list of all rows' ids and splits."""
        whole = self._address.copy()
        whole.update(b"]")
        return whole.hexdigest()

    def check_numbers(self) -> None:
        policy, train = self._policy, self.splits[Split.TRAIN]
        scarce = [
            f"{family} has {self.families[family]}"
            for family in Family
            if family in self.families and self.families[family] < policy.min_family_rows
        ]
        if train < policy.min_train_rows or scarce:
            told = [f"{train} train rows, {policy.min_train_rows} needed"]
            if scarce:
                told.append(f"{', '.join(scarce)} ({policy.min_family_rows} needed)")
            raise Invalid("; ".join(told), code="not_enough_rows", train_rows=train)

    def _is_recent(self, held: _Held) -> bool:
        return self.since is not None and held.source != "synthetic" and held.created_at >= self.since


def _remembered(row: TrainingExample, place: int) -> _Held:
    score = quality(row)
    return _Held(
        place=place,
        example_id=row.example_id,
        group_keys=row.group_keys,
        dealership_id=row.dealership_id,
        source=row.source,
        label_rank=label_rank(row.label),
        created_at=row.created_at,
        quality=score,
        is_good=is_good_enough(row, score),
    )


def _told(rows: Iterable[Row], step: str, progress: Progress) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        yield row
        if number % PROGRESS_ROWS == 0:
            progress(step, number)
