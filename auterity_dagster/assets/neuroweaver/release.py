"""Registration and deployment: each reads the verdict again and does nothing without a PASS for exactly these bytes."""

from collections.abc import Iterator

import dagster as dg

from auterity_dagster.assets.checks import blocking, checked
from auterity_dagster.assets.neuroweaver.data import GROUP
from auterity_dagster.assets.neuroweaver.documents import Evaluated, Judged, Registered, StageArtefact, Suites, handed
from auterity_dagster.assets.neuroweaver.evaluate import PRICE_KEY, generated
from auterity_dagster.assets.neuroweaver.stage import StageRunner
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.neuroweaver.example import EvaluationItem
from auterity_dagster.neuroweaver.jsonl import read_lines
from auterity_dagster.neuroweaver.switching import ServingPhase, Switch
from auterity_dagster.neuroweaver.verdict import why_not
from auterity_dagster.resources.alias_mirror import mirror_aliases, model_name
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.model_server_client import ModelServerClient
from auterity_dagster.resources.training_launcher import TrainingLauncher
from auterity_dagster.storage.adapter_bundle import check_adapter
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import audit, serving_state
from auterity_dagster.storage.repositories.gate_verdicts import latest_verdict, verdict_passes
from auterity_dagster.storage.repositories.rollout_steps import DEMO_ORGANIZATIONS
from auterity_dagster.storage.tables.specialisation import ReleasedArtefactRow

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
    """A version in MLflow, without an alias yet; without a PASS nothing is registered and the run ends here."""
    with database.connected() as connected:
        refused = refusal(connected, candidate, gate_verdict, serving_bundle.digest)
    if refused is not None:
        context.log.warning(f"not registered: {refused}")
        yield checked("verdict_matches_digest", True, not_registered=refused)
        return
    try:
        check_adapter(installation.store, serving_bundle.digest)
    except (Invalid, NotFound) as error:
        raise dg.Failure(f"not registered: {error.message}", allow_retries=False) from error
    if evaluation_report.mlflow_run_id is None:
        raise dg.Failure("the evaluation has no MLflow run: MLflow did not answer; run the job again")
    registry, verdict = installation.registry(), gate_verdict.verdict
    address = installation.tracking().artifact_address(evaluation_report.mlflow_run_id, "bundle")
    version = registry.register(
        name=model_name(candidate.scope),
        source=address,
        run_id=evaluation_report.mlflow_run_id,
        artefact_digest=serving_bundle.digest,
        tags={"auterity.verdict_digest": gate_verdict.verdict_digest, "auterity.grade": str(verdict.preference_grade)},
        description="\n".join(f"- {gate.gate} {gate.outcome}: {gate.reason}" for gate in verdict.gates),
    )
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
        runner = StageRunner(context, candidate, installation, launcher, database)
        lines = generated(runner, replayed, base=base_model.digest, adapter=digest, name="replay")
        told = {line.id: line.text for line in lines}
        answers = [
            server.answer(model, item.messages, max_tokens=candidate.read_recipe().evaluation.max_new_tokens)
            for item in replayed
        ]
        different = sum(
            answer.strip() != told[item.item_id].strip() for answer, item in zip(answers, replayed, strict=True)
        )
        is_equal = different <= ALLOWED_DIFFERENCES
        deployment_id = serving_state.deployment_id(candidate.scope)
        phase = "none"
        if is_equal:
            phase = _publish(connected, candidate, evaluation_report, gate_verdict, registered_model)
            mirror_aliases(connected, installation.registry(), candidate.organization)
    context.log.info(f"{deployment_id}: {len(replayed) - different} of {len(replayed)} replayed answers are equal")
    return dg.MaterializeResult(
        metadata={
            "deployment_id": deployment_id,
            "model": model,
            "digest": digest,
            "replayed": len(replayed),
            "phase": phase,
        },
        check_results=[
            checked("health", True, model=model),
            checked("live_parity", is_equal, equal=len(replayed) - different, replayed=len(replayed)),
        ],
    )


def refusal(
    database: BlockingDatabase, candidate: CandidateResource, judged: Judged, artefact_digest: str
) -> str | None:
    """Return why these bytes may not be released: the newest stored verdict about them must be the document's, a PASS.

    It must be of today: a verdict ends with the champion that it compared with.
    """
    with database.begin(candidate.organization) as session:
        current = serving_state.current_digest(session, candidate.scope)
        reason = why_not(
            judged.verdict,
            artefact_digest=artefact_digest,
            champion_digest=None if current == artefact_digest else current,
            now=SystemClock().now(),
        )
        if reason is not None:
            return reason
        newest = latest_verdict(session, artefact_digest)
        if newest is None or not verdict_passes(session, artefact_digest):
            return "no passing verdict is stored for this artefact"
    # The document came out of a file: what it says of itself counts only as far as it is what was stored.
    is_stored = newest.verdict_digest == judged.verdict.verdict_digest
    return None if is_stored else "the newest stored verdict for this artefact is another one"


def _publish(
    database: BlockingDatabase,
    candidate: CandidateResource,
    evaluated: Evaluated,
    judged: Judged,
    registered: Registered,
) -> str:
    """Keep the release and switch the scope towards it; return what it is there: `champion` or `shadow`."""
    digest, scope = registered.artefact_digest, candidate.scope
    is_demo = judged.verdict.may_route == DEMO_ORGANIZATIONS
    phase = ServingPhase.CHAMPION if is_demo else ServingPhase.SHADOW
    with database.begin(candidate.organization) as session:
        serving_state.release(session, _release(candidate, evaluated, judged, registered))
        state = serving_state.serving_state(session, scope)
        entry = serving_state.Entry(
            organization_id=candidate.organization,
            scope=scope,
            evidence_ids=[registered.verdict_digest, evaluated.report.digest],
            idempotency_key=f"{scope}:{state.sequence}:{digest}:{registered.verdict_digest}",
        )
        if digest in (state.current_digest, state.challenger_digest):
            serving_state.republish(session, entry)
            return "champion" if digest == state.current_digest else "challenger"
        reason = (
            "the gate passed; demo organizations take no canary" if is_demo else "the gate passed; it answers unseen"
        )
        change = Switch(state.current_digest, digest, phase, 100 if is_demo else 0, reason, actor=None)
        serving_state.switch(session, change, entry)
        audit.append_blocking(
            session,
            actor=None,
            action="deployment.published",
            subject=serving_state.deployment_id(scope),
            details={
                "artefact_digest": digest,
                "verdict_digest": registered.verdict_digest,
                "replaced": state.current_digest,
                "phase": phase.value,
            },
        )
    return phase.value


def _release(
    candidate: CandidateResource, evaluated: Evaluated, judged: Judged, registered: Registered
) -> ReleasedArtefactRow:
    return ReleasedArtefactRow(
        organization_id=candidate.organization,
        scope=candidate.scope,
        artefact_digest=registered.artefact_digest,
        verdict_digest=registered.verdict_digest,
        may_route=judged.verdict.may_route,
        registered_name=registered.name,
        registered_version=registered.version,
        model=f"adapter:{registered.artefact_digest}",
        price_key=PRICE_KEY,
        context_tokens=CONTEXT_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        tasks=[one.family.value for one in evaluated.report.families],
        families=[one.model_dump(mode="json") for one in evaluated.report.families],
    )
