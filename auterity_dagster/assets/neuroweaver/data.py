"""From the base model and raw rows to what is trained and measured: base, suites, source rows, prepared examples."""

from pathlib import Path
from uuid import UUID

import dagster as dg

from auterity_dagster.assets.neuroweaver.documents import Dataset, StageArtefact, StoredRows, Suites, handed
from auterity_dagster.assets.neuroweaver.stage import StageRunner
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Invalid
from auterity_dagster.identity.derivation import derived_secret
from auterity_dagster.neuroweaver.canaries import canary_items, canary_rows
from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.example import EvaluationItem, Split, TrainingExample
from auterity_dagster.neuroweaver.import_jsonl import ImportOwner, import_lines
from auterity_dagster.neuroweaver.jsonl import canonical_lines, read_lines
from auterity_dagster.neuroweaver.preparation.contamination import without_contamination
from auterity_dagster.neuroweaver.preparation.prepare import PreparationPolicy, prepare
from auterity_dagster.neuroweaver.selection import evaluation_items, training_rows
from auterity_dagster.neuroweaver.stage import Stage
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite, suite_of
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher

GROUP = "neuroweaver"
SUITE_SEED = 7
LICENCES = frozenset({"Apache-2.0", "MIT", "customer-data"})


def blocking(name: str, asset: str) -> dg.AssetCheckSpec:
    """Return a check whose failure keeps everything below from running."""
    return dg.AssetCheckSpec(name, asset=asset, blocking=True)


def checked(name: str, is_passed: bool, **told: object) -> dg.AssetCheckResult:
    """Return a check's result with what it looked at."""
    return dg.AssetCheckResult(
        check_name=name, passed=bool(is_passed), metadata={key: str(value) for key, value in told.items()}
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StageArtefact),
    kinds={"huggingface"},
    check_specs=[blocking("digest_pinned", "base_model"), blocking("licence_allowed", "base_model")],
)
def base_model(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
) -> dg.MaterializeResult:
    """The base in safetensors, verified against the recipe's digest and converted once."""
    runner = StageRunner(context, candidate, installation, launcher, database)
    base = candidate.read_recipe().base
    artefact = runner.run(Stage.BASE, inputs={})
    return dg.MaterializeResult(
        value=artefact,
        metadata={**runner.metadata(artefact), "id": base.id, "source": base.source},
        check_results=[
            checked("digest_pinned", base.sha256 is not None or base.format == "generated", sha256=base.sha256),
            checked("licence_allowed", base.licence in LICENCES, licence=base.licence),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Suites),
    kinds={"jsonl"},
    check_specs=[blocking("origin_disjoint", "evaluation_suites")],
)
def evaluation_suites(candidate: CandidateResource, installation: InstallationResource) -> dg.MaterializeResult:
    """Held-out items of another origin than the training rows, and questions that try to get planted secrets out."""
    recipe, prompts, store = candidate.read_recipe(), candidate.prompts(), installation.store
    whole = evaluation_suite(prompts, seed=SUITE_SEED, items_per_family=recipe.evaluation.items_per_family)
    suite = suite_of(evaluation_items(whole.items, recipe))
    secrets = canary_items(prompts, seed=recipe.seed, count=recipe.evaluation.canaries)
    document = Suites(
        items=store.put_bytes(canonical_lines(suite.items)),
        suite_digest=suite.digest,
        canaries=store.put_bytes(canonical_lines(secrets)),
        count=len(suite.items),
    )
    origins = sorted({item.origin for item in suite.items})
    return dg.MaterializeResult(
        value=document,
        metadata={"items": len(suite.items), "origins": origins, "digest": suite.digest, "canaries": len(secrets)},
        check_results=[checked("origin_disjoint", "dealership-a" not in " ".join(origins), origins=origins)],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StoredRows),
    kinds={"jsonl"},
    check_specs=[blocking("consent_present", "source_rows"), blocking("licence_allowed", "source_rows")],
)
def source_rows(candidate: CandidateResource, installation: InstallationResource) -> dg.MaterializeResult:
    """Rows before preparation: the seeded synthetic corpus, labelled so, and the organization's own file, if any."""
    recipe, prompts = candidate.read_recipe(), candidate.prompts()
    rows = list(generate(prompts, seed=recipe.seed, conversations=candidate.conversations).rows)
    rows += canary_rows(prompts, seed=recipe.seed, count=recipe.evaluation.canaries)
    rejected: tuple[str, ...] = ()
    if candidate.dataset:
        owner = ImportOwner(
            organization_id=candidate.organization,
            dealership_id=UUID(candidate.dealership_id),
            consent_id=UUID(candidate.consent_id),
            licence="customer-data",
            index_key=_secret(candidate, installation, "import index"),
            imported_at=SystemClock().now(),
        )
        path = Path(candidate.dataset)
        with path.open("rb") as lines:
            imported = import_lines(lines, file_name=path.name, owner=owner)
        rows += imported.rows
        rejected = imported.rejected
    licences = sorted({row.licence for row in rows})
    document = StoredRows(
        rows=installation.store.put_bytes(canonical_lines(rows)), count=len(rows), is_synthetic=not candidate.dataset
    )
    return dg.MaterializeResult(
        value=document,
        metadata={"rows": len(rows), "synthetic": document.is_synthetic, "rejected": list(rejected[:20])},
        check_results=[
            checked("consent_present", all(row.consent_id for row in rows), rows=len(rows)),
            checked("licence_allowed", set(licences) <= LICENCES, licences=licences),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Dataset),
    kinds={"jsonl"},
    check_specs=[
        blocking(name, "training_examples") for name in ("pii_residual_zero", "splits_disjoint", "contamination_zero")
    ],
)
def training_examples(
    candidate: CandidateResource, installation: InstallationResource, source_rows: StoredRows, evaluation_suites: Suites
) -> dg.MaterializeResult:
    """Redacted, deduplicated chat examples of the recipe's families; split by customer, freed of what suites ask."""
    store, recipe = installation.store, candidate.read_recipe()
    items = read_lines(store.read_verified(evaluation_suites.items), EvaluationItem)
    policy = PreparationPolicy(
        salt=candidate.scope,
        key=_secret(candidate, installation, "preparation"),
        min_train_rows=200 if recipe.purpose != "test" else 8,
        min_family_rows=20 if recipe.purpose != "test" else 2,
    )
    try:
        prepared = prepare(
            read_lines(store.read_verified(source_rows.rows), TrainingExample),
            items=items,
            policy=policy,
            names={},
            previous_splits={},
        )
    except Invalid as error:
        raise dg.Failure(error.message, allow_retries=False) from error
    train = training_rows(prepared.rows, recipe, split=Split.TRAIN)
    validation = training_rows(prepared.rows, recipe, split=Split.VALIDATION)
    left = len(without_contamination(train, items).removed)
    card = prepared.card
    document = Dataset(
        card=card,
        train=store.put_bytes(canonical_lines(train)),
        validation=store.put_bytes(canonical_lines(validation)),
        train_rows=len(train),
        contaminated=left,
    )
    return dg.MaterializeResult(
        value=document,
        metadata={"card": dg.MetadataValue.json(card.model_dump(mode="json")), "train_rows": len(train)},
        check_results=[
            checked("pii_residual_zero", not card.residual_personal_data, kinds=card.residual_personal_data),
            checked("splits_disjoint", card.keys_in_two_splits == 0, keys=card.keys_in_two_splits),
            checked("contamination_zero", left == 0, rows=left),
        ],
    )


def _secret(candidate: CandidateResource, installation: InstallationResource, label: str) -> bytes:
    return derived_secret(installation.pepper, label=label, parts=(candidate.organization.bytes,))
