"""What must not be in a prepared dataset, looked for once more on its own bytes: which rows, and what kind of thing.

The findings block training. They name rows by id and never repeat what was found.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from auterity_dagster.neuroweaver.example import EvaluationItem, GroupKeys, Split, TrainingExample
from auterity_dagster.neuroweaver.preparation.contamination import Guarded
from auterity_dagster.neuroweaver.preparation.duplicates import Fingerprints, folded
from auterity_dagster.neuroweaver.preparation.second_scan import residual_kinds, vins
from auterity_dagster.neuroweaver.preparation.split import keys_of

SHOWN_ROWS = 50


class Check(StrEnum):
    """The five questions to a dataset; each is a blocking check of an asset."""

    PII_RESIDUAL_ZERO = "pii_residual_zero"
    SPLITS_DISJOINT = "splits_disjoint"
    CONTAMINATION_ZERO = "contamination_zero"
    CONSENT_PRESENT = "consent_present"
    LICENCE_ALLOWED = "licence_allowed"


class Finding(NamedTuple):
    """One thing wrong with one row: its id, the check it fails, and the kind of thing, such as `phone`."""

    check: Check
    example_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Permitted:
    """What rows may be: whose, under which consents and licences; `organization_id` is that of the adapter's scope.

    `consents` are those in force, each with the dealership whose rows it covers; None covers all of them.
    """

    organization_id: UUID
    consents: Mapping[UUID, UUID | None]
    licences: frozenset[str]

    def covers(self, consent_id: UUID, dealership_id: UUID | None) -> bool:
        """Whether a consent is in force and is one to this dealership's rows."""
        return consent_id in self.consents and self.consents[consent_id] in (None, dealership_id)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Texts that must not be learned: `suites` anywhere in a row, `planted` in a turn that is trained."""

    suites: tuple[str, ...]
    planted: tuple[str, ...]


class Audit:
    """Looks at the rows of a dataset one by one, and at the end across them."""

    def __init__(
        self,
        *,
        items: Iterable[EvaluationItem],
        secrets: Secrets,
        key: bytes,
        names: Mapping[str, tuple[str, ...]],
        source_vins: Set[str],
        permitted: Permitted,
        folder: Path | None,
    ) -> None:
        """`source_vins` are those of the rows before their preparation (`noting_vins`): none of them may be left."""
        self._guarded = Guarded(items)
        self._source_vins = source_vins
        self._secrets, self._key, self._names, self._permitted = secrets, key, names, permitted
        self._fingerprints = Fingerprints(folder)
        self._ids: list[str] = []
        self._keys: list[GroupKeys] = []
        self._splits: list[Split | None] = []
        self._found: list[Finding] = []

    def look_at(self, row: TrainingExample) -> None:
        """Take the next row."""
        self._fingerprints.add(folded(row))
        self._ids.append(row.example_id)
        self._keys.append(row.group_keys)
        self._splits.append(row.split)
        text = "\n".join(message.content for message in row.messages)
        names = self._names.get(row.group_keys.customer, ())
        for kind in residual_kinds(text, key=self._key, names=names, source_vins=self._source_vins):
            self._find(Check.PII_RESIDUAL_ZERO, row, kind)
        for kind in permission_kinds(row, self._permitted):
            self._find(Check.LICENCE_ALLOWED if kind == "licence" else Check.CONSENT_PRESENT, row, kind)
        if row.split is Split.TRAIN and self._guarded.is_given_away_by(row):
            self._find(Check.CONTAMINATION_ZERO, row, "evaluation_item")
        if any(secret in text for secret in self._secrets.suites):
            self._find(Check.CONTAMINATION_ZERO, row, "suite_canary")
        trained = "\n".join(row.messages[turn].content for turn in row.trained_turns)
        if any(secret in trained for secret in self._secrets.planted):
            self._find(Check.CONTAMINATION_ZERO, row, "planted_secret")

    def findings(self) -> tuple[Finding, ...]:
        """Compare the rows with each other and return everything that was found, in the order of the rows."""
        for first, second, is_exact in self._fingerprints.twins(self._splits):
            kind = "duplicate_across_splits" if is_exact else "near_duplicate_across_splits"
            self._found += (Finding(Check.SPLITS_DISJOINT, self._ids[at], kind) for at in (first, second))
        self._fingerprints.close()
        for at, kind in _sharing(self._keys, self._splits):
            self._found.append(Finding(Check.SPLITS_DISJOINT, self._ids[at], f"shared_{kind}"))
        place = {example_id: at for at, example_id in enumerate(self._ids)}
        return tuple(sorted(set(self._found), key=lambda one: (place[one.example_id], one.check, one.kind)))

    def _find(self, check: Check, row: TrainingExample, kind: str) -> None:
        self._found.append(Finding(check, row.example_id, kind))


class Told(NamedTuple):
    """The findings of one check: how many rows, of which kinds, and the first rows with theirs; no values."""

    rows: int
    kinds: Mapping[str, int]
    first: Sequence[Mapping[str, str]]


def told(findings: Iterable[Finding], check: Check) -> Told:
    """Return what a failed check says."""
    own = [finding for finding in findings if finding.check is check]
    return Told(
        rows=len({finding.example_id for finding in own}),
        kinds=dict(sorted(Counter(finding.kind for finding in own).items())),
        first=[{"row": finding.example_id, "kind": finding.kind} for finding in own[:SHOWN_ROWS]],
    )


def permission_kinds(row: TrainingExample, permitted: Permitted) -> tuple[str, ...]:
    """Return why a row may not be trained on: `foreign_organization`, `no_consent`, `licence`."""
    found: list[str] = []
    if row.source != "synthetic":
        if row.organization_id != permitted.organization_id:
            found.append("foreign_organization")
        if row.consent_id == "synthetic" or not permitted.covers(row.consent_id, row.dealership_id):
            found.append("no_consent")
    elif row.consent_id != "synthetic":
        found.append("no_consent")
    if row.licence not in permitted.licences:
        found.append("licence")
    return tuple(found)


def noting_vins(rows: Iterable[TrainingExample], into: set[str]) -> Iterator[TrainingExample]:
    """Pass rows on to their preparation and note the VINs in them."""
    for row in rows:
        for message in row.messages:
            into.update(vins(message.content))
        yield row


def audited(rows: Iterable[TrainingExample], audit: Audit, *, progress: Callable[[int], None]) -> tuple[Finding, ...]:
    """Look at every row and return the findings."""
    for number, row in enumerate(rows, start=1):
        audit.look_at(row)
        if number % 5_000 == 0:
            progress(number)
    return audit.findings()


def _sharing(keys: Sequence[GroupKeys], splits: Sequence[Split | None]) -> list[tuple[int, str]]:
    """Return every row, by position, that shares a group key with a row of another split, and the kind of key."""
    holders: dict[str, list[int]] = {}
    for at, own in enumerate(keys):
        for key in keys_of(own):
            holders.setdefault(key, []).append(at)
    return [
        (at, key.partition(":")[0])
        for key, rows in holders.items()
        if len({splits[at] for at in rows}) > 1
        for at in rows
    ]
