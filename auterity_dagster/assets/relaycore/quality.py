"""From measured outcomes to a predictor that may choose: learned in its own process, registered, gated, published."""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from auterity_dagster.assets.checks import blocking, checked
from auterity_dagster.assets.neuroweaver.documents import handed
from auterity_dagster.assets.relaycore.documents import Outcomes, QualityModel, QualityReport
from auterity_dagster.assets.relaycore.registration import name_champion, registered
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Invalid
from auterity_dagster.relaycore.outcomes import Outcome, OutcomeTable, outcome_table
from auterity_dagster.relaycore.predictor_gate import GateDecision, GateLimits, HeldOut, decide
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.routing_scope import PredictorTraining, RoutingScope
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.predictor_bundle import FILES, load_predictor
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict
from auterity_dagster.storage.repositories.outcome_sets import outcome_sets, publish_predictor
from auterity_dagster.storage.repositories.replay import labelled_decisions
from auterity_dagster.storage.tables.specialisation import GateVerdictRow
from auterity_dagster.training.routing.outcome_file import outcome_bytes, read_outcome_file, read_outcomes

GROUP = "relaycore_quality"
PROFILE = "routing"
VALID = timedelta(days=30)


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Outcomes),
    kinds={"parquet"},
    check_specs=[
        blocking("enough_prompts", "routing_outcomes"),
        dg.AssetCheckSpec("few_gaps", asset="routing_outcomes"),
    ],
)
def routing_outcomes(
    routing: RoutingScope, installation: InstallationResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Every measured outcome of the organization: what its evaluations left, and its own table where one is named."""
    store = installation.store
    with database.connected() as connected, connected.begin(routing.organization) as session:
        digests = [row.digest for row in outcome_sets(session)]
    tables = [read_outcomes(io.BytesIO(store.read_verified(digest))) for digest in digests]
    if routing.outcomes:
        tables.append(read_outcome_file(Path(routing.outcomes)))
    rows = [row for table in tables for row in _rows(table)]
    try:
        table = outcome_table(rows)
    except Invalid as error:
        raise dg.Failure(f"there is nothing to learn from: {error.message}", allow_retries=False) from error
    cells = int((~np.isnan(table.scores)).sum())
    found = Outcomes(
        digest=store.put_bytes(outcome_bytes(rows)),
        prompts=len(table),
        models=table.models,
        tasks=tuple(sorted(set(table.tasks))),
        missing_cells=int(table.scores.size - cells),
    )
    return dg.MaterializeResult(
        value=found,
        metadata={"digest": found.digest, "prompts": found.prompts, "models": list(found.models), "outcomes": cells},
        check_results=[
            checked("enough_prompts", True, prompts=found.prompts),
            checked("few_gaps", cells >= 0.5 * table.scores.size, missing=found.missing_cells),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(QualityModel),
    kinds={"scikitlearn", "mlflow"},
    check_specs=[blocking(name, "quality_model") for name in ("plain_arrays", "loads_again")],
)
def quality_model(
    context: dg.AssetExecutionContext,
    routing: RoutingScope,
    installation: InstallationResource,
    predictor_training: PredictorTraining,
    routing_outcomes: Outcomes,
) -> dg.MaterializeResult:
    """A predictor learned on three quarters of the prompts, as safetensors and JSON, with the alias `challenger`."""
    told = predictor_training.run(context, "learn", {"outcomes": routing_outcomes.digest})
    digest = str(told["digest"])
    run_id, version = registered(context, routing, installation, digest, prompts=int(told["prompts"]))
    files = set(installation.store.manifest(digest).files)
    predictor = load_predictor(installation.store.checkout(digest))
    return dg.MaterializeResult(
        value=QualityModel(
            digest=digest,
            outcomes=routing_outcomes.digest,
            learned_prompts=int(told["prompts"]),
            mlflow_run_id=run_id,
            version=version,
        ),
        metadata={"digest": digest, "learned_prompts": int(told["prompts"]), "version": version or "none"},
        check_results=[
            checked("plain_arrays", files == FILES, files=sorted(files)),
            checked("loads_again", predictor.models == routing_outcomes.models, models=len(predictor.models)),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(QualityReport),
    kinds={"postgres"},
    check_specs=[
        dg.AssetCheckSpec("verdict_is_stored", asset="quality_report"),
        dg.AssetCheckSpec("better_than_length", asset="quality_report"),
    ],
)
def quality_report(
    context: dg.AssetExecutionContext,
    routing: RoutingScope,
    installation: InstallationResource,
    database: DatabaseResource,
    predictor_training: PredictorTraining,
    quality_model: QualityModel,
) -> dg.MaterializeResult:
    """The gate's decision about these bytes, on held-out prompts and in replay; only a PASS makes them champion."""
    told = predictor_training.run(
        context,
        "measure",
        {"outcomes": quality_model.outcomes, "predictor": quality_model.digest, "floor": str(routing.floor)},
    )
    with database.connected() as connected:
        with connected.begin(routing.organization) as session:
            replayed = labelled_decisions(session, predictor_digest=quality_model.digest)
        decision = decide(_held_out(told), replayed, GateLimits(), seed=0)
        report = _report(told, decision)
        report_digest = installation.store.put_bytes(report.encode())
        verdict_digest = hashlib.sha256(f"{quality_model.digest}|{report_digest}".encode()).hexdigest()
        is_stored = _stored(connected, routing, quality_model, decision, report_digest, verdict_digest)
    if decision.outcome == "PASS":
        name_champion(context, routing, installation, quality_model.digest)
    reasons = [f"{one.gate} {one.outcome}: {one.reason}" for one in decision.reasons]
    context.log.info(f"verdict {decision.outcome}: " + "; ".join(reasons))
    length = float(told["prompt_length_apgr"])
    return dg.MaterializeResult(
        value=QualityReport(
            digest=quality_model.digest,
            verdict_digest=verdict_digest,
            outcome=decision.outcome.value,
            report=report_digest,
        ),
        metadata={
            "verdict": decision.outcome.value,
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in reasons)),
            "pair": f"{told['strong']} against {told['weak']}",
            **{name: dg.MetadataValue.float(float(told[name])) for name in ("apgr", "cpt50", "cpt80")},
            "in_domain_share": dg.MetadataValue.float(float(told["in_domain_share"])),
        },
        check_results=[
            checked("verdict_is_stored", is_stored, digest=verdict_digest),
            checked("better_than_length", float(told["apgr"]) >= length, apgr=told["apgr"], length=length),
        ],
    )


def _rows(table: OutcomeTable) -> list[Outcome]:
    return [
        Outcome(table.prompts[row], table.tasks[row], table.models[column], score, float(table.costs[row, column]))
        for row in range(len(table))
        for column, score in enumerate(table.scores[row].tolist())
        if not math.isnan(score)
    ]


def _held_out(told: Mapping[str, Any]) -> HeldOut:
    return HeldOut(
        tasks=tuple(told["tasks"]),
        posterior_scores=np.array(told["posterior_scores"]),
        posterior_costs=np.array(told["posterior_costs"]),
        predictor_scores=np.array(told["predictor_scores"]),
        predictor_costs=np.array(told["predictor_costs"]),
        calibration_error=float(told["calibration_error"]),
    )


def _report(told: Mapping[str, Any], decision: GateDecision) -> str:
    figures = {name: value for name, value in told.items() if not isinstance(value, list)}
    reasons = [asdict(one) for one in decision.reasons]
    return json.dumps({"outcome": decision.outcome, "reasons": reasons, "figures": figures}, sort_keys=True)


def _stored(
    connected: BlockingDatabase,
    routing: RoutingScope,
    model: QualityModel,
    decision: GateDecision,
    report_digest: str,
    verdict_digest: str,
) -> bool:
    now = SystemClock().now()
    row = GateVerdictRow(
        organization_id=routing.organization,
        verdict_digest=verdict_digest,
        artefact_digest=model.digest,
        scope=routing.name,
        outcome=decision.outcome.value,
        profile=PROFILE,
        champion_digest="posterior",
        report_digest=report_digest,
        reasons=[asdict(one) for one in decision.reasons],
        decided_at=now,
        expires_at=now + VALID,
    )
    aliases = ("champion",) if decision.outcome == "PASS" else ("challenger",)
    with connected.begin(routing.organization) as session:
        add_verdict(session, row)
        for alias in aliases:
            publish_predictor(
                session,
                routing.organization,
                alias=alias,
                artefact_digest=model.digest,
                verdict_digest=verdict_digest,
                registered_version=model.version,
            )
        return session.get(GateVerdictRow, (routing.organization, verdict_digest)) is not None
