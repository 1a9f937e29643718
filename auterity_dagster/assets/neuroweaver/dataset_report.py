"""What a version of a dataset looks like, and how it differs from the version before: Evidently's page and figures."""

from itertools import islice

import dagster as dg

from auterity_dagster.assets.checks import checked
from auterity_dagster.assets.neuroweaver.data import GROUP
from auterity_dagster.assets.neuroweaver.documents import Dataset, StageArtefact
from auterity_dagster.neuroweaver.dataset_features import dataset_features
from auterity_dagster.neuroweaver.drift import ENOUGH_ROWS, PSI_LIMIT, Drift, Features
from auterity_dagster.neuroweaver.example import TrainingExample
from auterity_dagster.neuroweaver.jsonl import stream_lines
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.evidently_report import evidently_report
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.token_counts import token_spreads
from auterity_dagster.storage.repositories import dataset_versions

COUNTED_ROWS = 5_000
"""So many rows are enough for the percentiles of their tokens."""


@dg.asset(group_name=GROUP, kinds={"evidently"}, check_specs=[dg.AssetCheckSpec("drift", asset="dataset_report")])
def dataset_report(
    candidate: CandidateResource,
    installation: InstallationResource,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
) -> dg.MaterializeResult:
    """The dataset's number, its token lengths, and its drift against the version before; drift blocks nothing."""
    store, card = installation.store, training_examples.card
    features = _features(installation, training_examples.rows)
    with store.open_verified(training_examples.rows) as lines:
        counted = islice(stream_lines(lines, TrainingExample), COUNTED_ROWS)
        tokens = token_spreads(counted, store.checkout(base_model.digest))
    with database.connected() as connected:
        with connected.begin(candidate.organization) as session:
            before = dataset_versions.version_before(session, candidate.scope, card.dataset_digest)
        reference = None if before is None else _features(installation, before.rows_digest)
        report = evidently_report(features, reference)
        page = store.put_bytes(report.html)
        told = None if report.drift is None else report.drift.model_dump(mode="json")
        with connected.begin(candidate.organization) as session:
            version = dataset_versions.record_version(
                session,
                dataset_versions.NewVersion(
                    organization_id=candidate.organization,
                    scope=candidate.scope,
                    dataset_digest=card.dataset_digest,
                    rows_digest=training_examples.rows,
                    rows=sum(card.splits.values()),
                    card={**card.model_dump(mode="json"), "tokens": tokens},
                    consent_ids=training_examples.consent_ids,
                    drift=told,
                    report_digest=page,
                ),
            )
    return dg.MaterializeResult(
        metadata={
            "version": version,
            "compared_with": "nothing" if before is None else f"version {before.version}",
            "tokens": dg.MetadataValue.json(tokens),
            "drift": dg.MetadataValue.json(told or {}),
            "page": dg.MetadataValue.path(store.path_of(page)),
        },
        check_results=[drift_check(report.drift)],
    )


def drift_check(drift: Drift | None) -> dg.AssetCheckResult:
    """Return the check's result: it fails for columns that have drifted, not for too few rows, which it tells."""
    if drift is None:
        return checked("drift", True, told="there is nothing to compare with")
    if not drift.is_conclusive:
        least = min(drift.rows, drift.reference_rows)
        return checked("drift", True, told=f"{least} rows, {ENOUGH_ROWS} needed to tell drift from chance")
    return checked("drift", not drift.drifted, columns=", ".join(drift.drifted), limit=PSI_LIMIT)


def _features(installation: InstallationResource, rows: str) -> Features:
    with installation.store.open_verified(rows) as lines:
        return dataset_features(stream_lines(lines, TrainingExample))
