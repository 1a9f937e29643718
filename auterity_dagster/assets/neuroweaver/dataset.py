"""From raw rows to what is trained: source rows, and the examples prepared from them, each with its blocking checks."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import dagster as dg
from pydantic import BaseModel, ConfigDict

from auterity_dagster.assets.checks import blocking
from auterity_dagster.assets.neuroweaver.data import GROUP, LICENCES
from auterity_dagster.assets.neuroweaver.documents import Dataset, StoredRows, Suites, handed
from auterity_dagster.assets.neuroweaver.sources import imported_rows, organization_secret, traced_rows
from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.canaries import canary_rows
from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.example import EvaluationItem, Split, TrainingExample
from auterity_dagster.neuroweaver.importing import Imported
from auterity_dagster.neuroweaver.jsonl import Row, canonical_line, canonical_lines, stream_lines
from auterity_dagster.neuroweaver.preparation.audit import (
    Audit,
    Check,
    Finding,
    Permitted,
    Secrets,
    audited,
    noting_vins,
    permission_kinds,
    told,
)
from auterity_dagster.neuroweaver.preparation.prepare import PreparationPolicy, prepare_stream
from auterity_dagster.neuroweaver.selection import training_rows
from auterity_dagster.neuroweaver.suites.generator import SUITE_CANARY
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories.consents import current_consents

_ROW_CHECKS = (Check.CONSENT_PRESENT, Check.LICENCE_ALLOWED)
_DATASET_CHECKS = (Check.PII_RESIDUAL_ZERO, Check.SPLITS_DISJOINT, Check.CONTAMINATION_ZERO)


class CustomerNames(BaseModel):
    """The names of one customer's record, by hidden key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    customer: str
    names: tuple[str, ...]


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StoredRows),
    kinds={"jsonl"},
    check_specs=[blocking(check.value, "source_rows") for check in _ROW_CHECKS],
)
def source_rows(
    candidate: CandidateResource, installation: InstallationResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Rows before preparation: the seeded synthetic corpus, labelled so, and the organization's own file, if any."""
    recipe, prompts = candidate.read_recipe(), candidate.prompts()
    permitted = _permitted(candidate, database)
    imported = Imported(0, 0, (), {})
    with _RowFile.open(installation) as file:
        for row in generate(prompts, seed=recipe.seed, conversations=candidate.conversations).rows:
            file.take(row)
        for row in canary_rows(prompts, seed=recipe.seed, count=recipe.evaluation.canaries):
            file.take(row)
        if candidate.dataset:
            imported = imported_rows(candidate, installation, file.take)
        traced = traced_rows(candidate, installation, database, permitted, file.take)
        findings = [
            Finding(Check.LICENCE_ALLOWED if kind == "licence" else Check.CONSENT_PRESENT, row.example_id, kind)
            for row in file.rows()
            for kind in permission_kinds(row, permitted)
        ]
        document = StoredRows(
            rows=installation.store.put_file(file.path),
            names=_put_names(installation, {**imported.names, **traced.names}),
            count=file.count,
            is_synthetic=not (candidate.dataset or traced.rows),
            consent_ids=file.consent_ids,
        )
    return dg.MaterializeResult(
        value=document,
        metadata={
            "rows": file.count,
            "synthetic": document.is_synthetic,
            "imported": imported.rows,
            "traces": traced.rows,
            "unanswered": imported.unanswered,
            "rejected": list(imported.rejected),
        },
        check_results=[_checked(findings, check) for check in _ROW_CHECKS],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Dataset),
    kinds={"jsonl"},
    check_specs=[blocking(check.value, "training_examples") for check in (*_DATASET_CHECKS, *_ROW_CHECKS)],
)
def training_examples(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    database: DatabaseResource,
    source_rows: StoredRows,
    evaluation_suites: Suites,
) -> dg.MaterializeResult:
    """Redacted, deduplicated chat examples of the recipe's families; split by customer, freed of what suites ask."""
    store, recipe = installation.store, candidate.read_recipe()
    key = organization_secret(candidate, installation, "preparation")
    names = _names(installation, source_rows)
    source_vins: set[str] = set()
    guarded = list(_stored(installation, evaluation_suites.guarded, EvaluationItem))
    policy = PreparationPolicy(
        salt=candidate.scope,
        key=key,
        min_train_rows=200 if recipe.purpose != "test" else 8,
        min_family_rows=20 if recipe.purpose != "test" else 2,
        held_out_dealership=UUID(candidate.held_out_dealership) if candidate.held_out_dealership else None,
    )
    with _RowFile.open(installation) as file:
        try:
            card = prepare_stream(
                noting_vins(_stored(installation, source_rows.rows, TrainingExample), into=source_vins),
                items=guarded,
                policy=policy,
                names=names,
                previous_splits={},
                folder=file.path.parent,
                take=file.take,
                progress=lambda step, done: context.log.info(f"{done:,} rows {step}"),
            )
        except Invalid as error:
            raise dg.Failure(error.message, allow_retries=False) from error
        audit = Audit(
            items=guarded,
            secrets=Secrets((str(SUITE_CANARY),), _planted(guarded)),
            key=key,
            names=names,
            source_vins=source_vins,
            permitted=_permitted(candidate, database),
            folder=file.path.parent,
        )
        findings = audited(file.rows(), audit, progress=lambda done: context.log.info(f"{done:,} rows audited"))
        train = training_rows(file.rows(), recipe, split=Split.TRAIN)
        validation = training_rows(file.rows(), recipe, split=Split.VALIDATION)
        document = Dataset(
            card=card,
            rows=store.put_file(file.path),
            train=store.put_bytes(canonical_lines(train)),
            validation=store.put_bytes(canonical_lines(validation)),
            train_rows=len(train),
            contaminated=told(findings, Check.CONTAMINATION_ZERO).rows,
            consent_ids=file.consent_ids,
        )
    return dg.MaterializeResult(
        value=document,
        metadata={"card": dg.MetadataValue.json(card.model_dump(mode="json")), "train_rows": len(train)},
        check_results=[_checked(findings, check) for check in (*_DATASET_CHECKS, *_ROW_CHECKS)],
    )


class _RowFile:
    """Rows on their way into the object store, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._consents: set[UUID] = set()
        self._file = path.open("wb")

    @property
    def consent_ids(self) -> tuple[UUID, ...]:
        """The consents that the rows rest on."""
        return tuple(sorted(self._consents))

    @classmethod
    @contextmanager
    def open(cls, installation: InstallationResource) -> Iterator["_RowFile"]:
        folder = Path(installation.data_dir) / "preparation"
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as name:
            rows = cls(Path(name) / "rows.jsonl")
            try:
                yield rows
            finally:
                rows._file.close()

    def take(self, row: TrainingExample) -> None:
        self._file.write(canonical_line(row))
        self.count += 1
        if row.consent_id != "synthetic":
            self._consents.add(row.consent_id)

    def rows(self) -> Iterator[TrainingExample]:
        self._file.flush()
        with self.path.open("rb") as lines:
            yield from stream_lines(lines, TrainingExample)


def _permitted(candidate: CandidateResource, database: DatabaseResource) -> Permitted:
    """Return what rows may be now: a consent that was revoked since the rows were read no longer covers them."""
    with database.connected() as connected, connected.begin(candidate.organization) as session:
        consents = {one.id: one.dealership_id for one in current_consents(session)}
    return Permitted(candidate.organization, consents, LICENCES)


def _checked(findings: Iterable[Finding], check: Check) -> dg.AssetCheckResult:
    """Return a check's result; one that failed says which rows and what kind of thing, and no value."""
    said = told(findings, check)
    return dg.AssetCheckResult(
        check_name=check.value,
        passed=said.rows == 0,
        metadata={
            "rows": said.rows,
            "kinds": dg.MetadataValue.json(dict(said.kinds)),
            "first": dg.MetadataValue.json([dict(one) for one in said.first]),
        },
    )


def _put_names(installation: InstallationResource, names: Mapping[str, tuple[str, ...]]) -> str:
    rows = [CustomerNames(customer=customer, names=found) for customer, found in sorted(names.items())]
    return installation.store.put_bytes(canonical_lines(rows))


def _names(installation: InstallationResource, stored: StoredRows) -> Mapping[str, tuple[str, ...]]:
    return {one.customer: one.names for one in _stored(installation, stored.names, CustomerNames)}


def _stored(installation: InstallationResource, digest: str, row_type: type[Row]) -> Iterator[Row]:
    with installation.store.open_verified(digest) as lines:
        yield from stream_lines(lines, row_type)


def _planted(items: Iterable[EvaluationItem]) -> tuple[str, ...]:
    return tuple(str(item.expected["secret"]) for item in items if "secret" in item.expected)
