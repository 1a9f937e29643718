"""From source rows to a dataset: scrub, deduplicate, score, split, decontaminate, and count what each step did."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, Split, TrainingExample, example_id
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.preparation.contamination import without_contamination
from auterity_dagster.neuroweaver.preparation.duplicates import without_duplicates
from auterity_dagster.neuroweaver.preparation.quality import is_good_enough, quality
from auterity_dagster.neuroweaver.preparation.scrub import residual_kinds, scrub
from auterity_dagster.neuroweaver.preparation.split import assigned, shared_keys


@dataclass(frozen=True, slots=True)
class PreparationPolicy:
    """What a dataset must have. `salt` decides who is in which split, `key` makes new VIN serials; both are secrets."""

    salt: str
    key: bytes
    min_train_rows: int = 200
    min_family_rows: int = 20


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
    contaminated: int
    splits: Mapping[str, int]
    train_families: Mapping[str, int]
    mean_quality: float
    residual_personal_data: Mapping[str, int]
    keys_in_two_splits: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A dataset: every row carries its split; `card` is its description."""

    rows: tuple[TrainingExample, ...]
    card: DatasetCard

    def split(self, split: Split) -> tuple[TrainingExample, ...]:
        """Return the rows of one split, in order."""
        return tuple(row for row in self.rows if row.split is split)


def prepare(
    rows: Sequence[TrainingExample],
    *,
    items: Sequence[EvaluationItem],
    policy: PreparationPolicy,
    names: Mapping[str, tuple[str, ...]],
    previous_splits: Mapping[str, Split],
) -> Prepared:
    """Prepare validated rows for training.

    `items` are all suites and gold items that must not be given away; `names` are the names of each customer key's
    record. Only train rows are decontaminated: test rows are never trained on.
    Raises `Invalid` with code `not_enough_rows` when too few train rows are left, in all or in a family.
    """
    counts: Counter[str] = Counter()
    scrubbed: list[TrainingExample] = []
    for row in rows:
        clean = scrub(row.messages, names=names.get(row.group_keys.customer, ()), key=policy.key)
        counts.update(clean.counts)
        changes = {"messages": clean.messages, "example_id": example_id(clean.messages, row.tools)}
        scrubbed.append(row.model_copy(update=changes) if clean.counts else row)
    distinct = without_duplicates(scrubbed)
    scored = [row.model_copy(update={"quality": quality(row)}) for row in distinct.rows]
    good = [row for row in scored if is_good_enough(row, row.quality or 0.0)]
    split = assigned(good, salt=policy.salt, previous=previous_splits)
    clean_train = without_contamination([row for row in split if row.split is Split.TRAIN], items)
    removed = set(clean_train.removed)
    dataset = tuple(row for row in split if row.split is not Split.TRAIN or row.example_id not in removed)
    _check_numbers([row for row in dataset if row.split is Split.TRAIN], policy)
    card = DatasetCard(
        dataset_digest=digest([[row.example_id, row.split] for row in dataset]),
        is_synthetic=any(row.source == "synthetic" for row in dataset),
        sources=dict(Counter(str(row.source) for row in dataset)),
        licences=tuple(sorted({row.licence for row in dataset})),
        rows_in=len(rows),
        personal_data_replaced=dict(sorted(counts.items())),
        duplicates_exact=distinct.exact,
        duplicates_near=distinct.near,
        low_quality=len(scored) - len(good),
        contaminated=len(removed),
        splits=dict(Counter(str(row.split) for row in dataset)),
        train_families=dict(Counter(row.family.value for row in dataset if row.split is Split.TRAIN)),
        mean_quality=round(sum(row.quality or 0.0 for row in dataset) / max(len(dataset), 1), 4),
        residual_personal_data=residual_personal_data(dataset),
        keys_in_two_splits=len(shared_keys(dataset)),
    )
    return Prepared(dataset, card)


def residual_personal_data(rows: Sequence[TrainingExample]) -> Mapping[str, int]:
    """Count the rows in which the second scanner still finds personal data, by kind; a sound dataset has none."""
    return dict(
        Counter(kind for row in rows for kind in residual_kinds("\n".join(one.content for one in row.messages)))
    )


def _check_numbers(train: Sequence[TrainingExample], policy: PreparationPolicy) -> None:
    families = Counter(row.family for row in train)
    scarce = [
        f"{family} has {families[family]}"
        for family in Family
        if family in families and families[family] < policy.min_family_rows
    ]
    if len(train) < policy.min_train_rows or scarce:
        told = [f"{len(train)} train rows, {policy.min_train_rows} needed"]
        if scarce:
            told.append(f"{', '.join(scarce)} ({policy.min_family_rows} needed)")
        raise Invalid("; ".join(told), code="not_enough_rows", train_rows=len(train))
