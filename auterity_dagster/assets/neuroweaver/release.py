"""Registration and deployment: each reads the verdict again and does nothing without a PASS for exactly these bytes."""

from collections.abc import Iterator

import dagster as dg

from auterity_dagster.assets.neuroweaver.data import GROUP, blocking, checked
from auterity_dagster.assets.neuroweaver.documents import Evaluated, Judged, Registered, StageArtefact, Suites, handed
from auterity_dagster.assets.neuroweaver.evaluate import PRICE_KEY, generated
from auterity_dagster.assets.neuroweaver.stage import StageRunner
from auterity_dagster.clock import SystemClock
from auterity_dagster.neuroweaver.example import EvaluationItem
from auterity_dagster.neuroweaver.jsonl import read_lines
from auterity_dagster.neuroweaver.verdict import why_not
from auterity_dagster.relaycore.catalog import ServedDeployment
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.model_server_client import ModelServerClient
from auterity_dagster.resources.training_launcher import TrainingLauncher
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import audit, serving_state
from auterity_dagster.storage.repositories.gate_verdicts import verdict_passes
from auterity_dagster.storage.repositories.routing import publish_deployment

REPLAYED = 8
ALLOWED_DIFFERENCES = 1
CONTEXT_TOKENS, OUTPUT_TOKENS = 8192, 512


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Registered),
    kinds={"mlflow"},
    output_required=False,
    check_specs=[blocking("verdict_matches_digest", "registered_model")],
)
def registered_model(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    database: DatabaseResource,
    serving_bundle: StageArtefact,
    evaluation_report: Evaluated,
    gate_verdict: Judged,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """A version in MLflow with the alias `challenger`; without a PASS nothing is registered and the run ends here."""
    with database.connected() as connected:
        refused = refusal(connected, candidate, gate_verdict, serving_bundle.digest)
    if refused is not None:
        context.log.warning(f"not registered: {refused}")
        yield checked("verdict_matches_digest", True, not_registered=refused)
        return
    if evaluation_report.mlflow_run_id is None:
        raise dg.Failure("the evaluation has no MLflow run: MLflow did not answer; run the job again")
    registry, verdict = installation.registry(), gate_verdict.verdict
    address = installation.tracking().artifact_address(evaluation_report.mlflow_run_id, "bundle")
    version = registry.register(
        name=f"neuroweaver-{candidate.scope}",
        source=address,
        run_id=evaluation_report.mlflow_run_id,
        artefact_digest=serving_bundle.digest,
        tags={"auterity.verdict_digest": gate_verdict.verdict_digest, "auterity.grade": str(verdict.preference_grade)},
        description="\n".join(f"- {gate.gate} {gate.outcome}: {gate.reason}" for gate in verdict.gates),
    )
    registry.set_alias(version, "challenger")
    yield dg.MaterializeResult(
        value=Registered(
            name=version.name,
            version=version.version,
            artefact_digest=serving_bundle.digest,
            verdict_digest=gate_verdict.verdict_digest,
        ),
        metadata={
            "version": f"{version.name}/{version.version}",
            "model": dg.MetadataValue.url(registry.address(version)),
            "digest": serving_bundle.digest,
        },
        check_results=[
            checked(
                "verdict_matches_digest",
                verdict.artefact_digest == serving_bundle.digest,
                verdict=verdict.outcome,
            )
        ],
    )


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    check_specs=[blocking(name, "deployment") for name in ("health", "live_parity")],
)
def deployment(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    evaluation_suites: Suites,
    evaluation_report: Evaluated,
    gate_verdict: Judged,
    registered_model: Registered,
) -> dg.MaterializeResult:
    """The model server answers with these bytes as the evaluation did; then the gateway may route to it."""
    store, digest = installation.store, registered_model.artefact_digest
    items = read_lines(store.read_verified(evaluation_suites.items), EvaluationItem)
    replayed = items[:: max(1, len(items) // REPLAYED)][:REPLAYED]
    with database.connected() as connected:
        refused = refusal(connected, candidate, gate_verdict, digest)
        if refused is not None:
            raise dg.Failure(f"not deployed: {refused}", allow_retries=False)
        server = ModelServerClient(installation.model_server_url, installation.model_server_token)
        model = f"adapter:{digest}"
        server.load(model)
        # One at a time on both sides: in bfloat16 the size of a batch alone can turn a close choice of a word.
        runner = StageRunner(context, candidate, installation, launcher, database)
        lines = generated(runner, replayed, base=base_model.digest, adapter=digest, name="replay", batch=1)
        told = {line.id: line.text for line in lines}
        answers = [
            server.answer(model, item.messages, max_tokens=candidate.read_recipe().evaluation.max_new_tokens)
            for item in replayed
        ]
        different = sum(
            answer.strip() != told[item.item_id].strip() for answer, item in zip(answers, replayed, strict=True)
        )
        is_equal = different <= ALLOWED_DIFFERENCES
        deployment_id = f"neuroweaver/{candidate.scope}"
        if is_equal:
            _publish(connected, candidate, evaluation_report, registered_model, deployment_id=deployment_id)
            _mirror(installation, registered_model)
    context.log.info(f"{deployment_id}: {len(replayed) - different} of {len(replayed)} replayed answers are equal")
    return dg.MaterializeResult(
        metadata={"deployment_id": deployment_id, "model": model, "digest": digest, "replayed": len(replayed)},
        check_results=[
            checked("health", True, model=model),
            checked("live_parity", is_equal, equal=len(replayed) - different, replayed=len(replayed)),
        ],
    )


def refusal(
    database: BlockingDatabase, candidate: CandidateResource, judged: Judged, artefact_digest: str
) -> str | None:
    """Return why these bytes may not be released: the document's verdict and the stored one must both be a PASS."""
    reason = why_not(
        judged.verdict,
        artefact_digest=artefact_digest,
        champion_digest=judged.verdict.champion_digest,
        now=SystemClock().now(),
    )
    if reason is not None:
        return reason
    with database.begin(candidate.organization) as session:
        is_stored = verdict_passes(session, artefact_digest)
    return None if is_stored else "no passing verdict is stored for this artefact"


def _publish(
    database: BlockingDatabase,
    candidate: CandidateResource,
    evaluated: Evaluated,
    registered: Registered,
    *,
    deployment_id: str,
) -> None:
    digest = registered.artefact_digest
    with database.begin(candidate.organization) as session:
        before = serving_state.current_digest(session, candidate.scope)
        if before != digest:
            serving_state.switch(
                session,
                serving_state.Switch(
                    organization_id=candidate.organization,
                    scope=candidate.scope,
                    from_digest=before,
                    to_digest=digest,
                    weight_percent=100,
                    state="champion",
                    reason="the gate passed; demo organizations take no canary",
                    evidence_ids=[registered.verdict_digest, evaluated.report.digest],
                    actor="automation",
                    idempotency_key=f"{candidate.scope}:{before}:{digest}:{registered.verdict_digest}",
                ),
            )
        publish_deployment(
            session,
            ServedDeployment(
                organization_id=candidate.organization,
                deployment_id=deployment_id,
                artefact_digest=digest,
                model=f"adapter:{digest}",
                price_key=PRICE_KEY,
                alias="champion",
                weight_percent=100,
                gate_verdict_digest=registered.verdict_digest,
                context_tokens=CONTEXT_TOKENS,
                output_tokens=OUTPUT_TOKENS,
                tasks=tuple(one.family.value for one in evaluated.report.families),
            ),
        )
        audit.append_blocking(
            session,
            actor=None,
            action="deployment.published",
            subject=deployment_id,
            details={"artefact_digest": digest, "verdict_digest": registered.verdict_digest, "replaced": before},
        )


def _mirror(installation: InstallationResource, registered: Registered) -> None:
    registry = installation.registry()
    version = registry.version_of(registered.name, registered.artefact_digest)
    if version is not None:
        registry.set_alias(version, "champion")
