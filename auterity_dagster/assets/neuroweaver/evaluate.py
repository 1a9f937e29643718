"""How good the bundle is, on the bytes that will serve, and what the gate makes of it."""

from pathlib import Path

import dagster as dg

from auterity_dagster.assets.checks import blocking, checked
from auterity_dagster.assets.neuroweaver.data import GROUP
from auterity_dagster.assets.neuroweaver.documents import (
    Dataset,
    Evaluated,
    Judged,
    Pairs,
    StageArtefact,
    Suites,
    handed,
)
from auterity_dagster.assets.neuroweaver.gateway import judging_gateway
from auterity_dagster.assets.neuroweaver.outcomes import measured_outcomes
from auterity_dagster.assets.neuroweaver.preference_effect import preference_effect
from auterity_dagster.assets.neuroweaver.stage import StageRunner, code_digest, experiment
from auterity_dagster.assets.neuroweaver.train import DPO_SKIPPED, unsafe_files
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Unavailable
from auterity_dagster.neuroweaver.evaluation import Answer, EvaluationReport, marked, report
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, ItemResult
from auterity_dagster.neuroweaver.jsonl import canonical_lines, read_lines
from auterity_dagster.neuroweaver.judging import load_rubric
from auterity_dagster.neuroweaver.preference_effect import PreferenceEffect
from auterity_dagster.neuroweaver.promotion import decide, load_promotion_policy
from auterity_dagster.neuroweaver.stage import AnswerLine, Generation, PromptLine, Stage
from auterity_dagster.neuroweaver.verdict import Evidence, Verdict
from auterity_dagster.relaycore.catalog import provider_digest
from auterity_dagster.relaycore.price_list import load_prices
from auterity_dagster.relaycore.pricing import Price, Usage, cost
from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import serving_state
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict, verdict_row
from auterity_dagster.storage.repositories.outcome_sets import add_outcome_set
from auterity_dagster.storage.repositories.prices import own_prices_blocking
from auterity_dagster.storage.repositories.routing import record_quality
from auterity_dagster.training.routing.outcome_file import outcome_bytes

CHAMPION = "sandbox-large"
COMPARED_PROVIDERS = ("sandbox-large", "sandbox-small")
PRICE_KEY = "served/smollm2-135m"
EVIDENCE_SOURCE = "evaluation"
BASE, SFT, CANDIDATE, CANARIES, INCUMBENT = "base", "sft", "candidate", "canaries", "champion"


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Evaluated),
    kinds={"python"},
    check_specs=[blocking(name, "evaluation_report") for name in ("complete", "champion_rescored")],
)
def evaluation_report(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    evaluation_suites: Suites,
    sft_adapter: StageArtefact,
    grpo_adapter: StageArtefact,
    serving_bundle: StageArtefact,
) -> dg.MaterializeResult:
    """Bundle, SFT adapter, base and the models behind the gateway on the same held-out items, with intervals."""
    recipe, store = candidate.read_recipe(), installation.store
    items = read_lines(store.read_verified(evaluation_suites.items), EvaluationItem)
    secrets = read_lines(store.read_verified(evaluation_suites.canaries), EvaluationItem)
    runner = StageRunner(context, candidate, installation, launcher, database)
    base = base_model.digest
    lines = {
        BASE: generated(runner, items, base=base, adapter=None, name=BASE),
        SFT: generated(runner, items, base=base, adapter=sft_adapter.digest, name=SFT),
        CANDIDATE: generated(runner, (*items, *secrets), base=base, adapter=serving_bundle.digest, name=CANDIDATE),
    }
    incumbent = serving_champion(database, candidate, serving_bundle.digest)
    champion = CHAMPION if incumbent is None else INCUMBENT
    own = {
        BASE: (items, lines[BASE], f"base:{base}"),
        SFT: (items, lines[SFT], sft_adapter.digest),
        CANDIDATE: (items, lines[CANDIDATE], serving_bundle.digest),
        CANARIES: (secrets, lines[CANDIDATE], serving_bundle.digest),
    }
    if incumbent is not None:
        lines[INCUMBENT] = generated(runner, items, base=base, adapter=incumbent, name=INCUMBENT)
        own[INCUMBENT] = (items, lines[INCUMBENT], incumbent)
    results = {name: _marked(asked, told, digest) for name, (asked, told, digest) in own.items()}
    asked = {item.item_id: (item.family.value, item.messages) for item in items}
    with database.connected() as connected:
        price = own_price(connected, candidate, installation)
        costs = {name: _costs(price, found) for name, found in lines.items()}
        gateway = judging_gateway(connected, candidate, installation)
        for deployment in COMPARED_PROVIDERS:
            answers = gateway.answers(deployment, asked, max_tokens=recipe.evaluation.max_new_tokens)
            results[deployment] = marked(
                [
                    Answer(
                        item_id=item_id,
                        output=answer.text,
                        stop_reason=answer.stop_reason,
                        completion_tokens=answer.completion_tokens,
                        latency_ms=answer.latency_ms,
                    )
                    for item_id, answer in answers.items()
                ],
                items,
                artefact_digest=provider_digest("sandbox", deployment),
            )
            costs[deployment] = {item_id: answer.cost_nusd for item_id, answer in answers.items()}
        effect = None
        skipped = grpo_adapter.facts.get(DPO_SKIPPED) if grpo_adapter.digest == sft_adapter.digest else None
        if recipe.preferences is not None and skipped is None:
            effect = preference_effect(
                context,
                gateway,
                load_rubric(Path(installation.config_dir) / "rubrics" / f"{recipe.preferences.rubric}.yaml"),
                items,
                before=results[SFT],
                after=results[CANDIDATE],
                seed=recipe.seed,
            )
        gateway.close()
        reports = {
            name: report(
                items,
                suite_digest=evaluation_suites.suite_digest,
                candidate=results[name],
                champion=results[champion],
                base=results[BASE],
                canaries=results[CANARIES] if name == CANDIDATE else (),
                seed=recipe.seed,
            )
            for name in (CANDIDATE, SFT)
        }
        compared = (*lines, *COMPARED_PROVIDERS)
        kept = store.put_bytes(
            outcome_bytes(measured_outcomes(items, {name: results[name] for name in compared}, costs))
        )
        with connected.begin(candidate.organization) as session:
            for name in compared:
                for evidence in _evidence(candidate, items, results[name]):
                    record_quality(session, evidence)
            add_outcome_set(session, candidate.organization, digest=kept, source=EVIDENCE_SOURCE, outcomes=len(items))
    run_id = _tell_mlflow(context, candidate, installation, reports[CANDIDATE], serving_bundle)
    document = Evaluated(
        report=reports[CANDIDATE],
        sft_report=reports[SFT],
        preference_effect=effect,
        results={name: store.put_bytes(canonical_lines(found)) for name, found in results.items()},
        cost_nusd=sum(costs[CANDIDATE].values()) / max(len(costs[CANDIDATE]), 1),
        champion_cost_nusd=sum(costs[champion].values()) / max(len(costs[champion]), 1),
        mlflow_run_id=run_id,
    )
    shown: dict[str, dg.MetadataValue] = {
        "digest": dg.MetadataValue.text(serving_bundle.digest),
        "champion": dg.MetadataValue.text(incumbent or CHAMPION),
        "families": dg.MetadataValue.json(family_figures(document)),
        "table": dg.MetadataValue.md(_table(document)),
        "preference_effect": dg.MetadataValue.text(_told(effect, skipped)),
        "critical_events": dg.MetadataValue.int(document.report.critical_events),
        "cost_nusd": dg.MetadataValue.float(document.cost_nusd),
        "champion_cost_nusd": dg.MetadataValue.float(document.champion_cost_nusd),
    }
    if run_id is not None:
        shown["mlflow_run"] = dg.MetadataValue.url(installation.tracking().run_address(run_id))
    return dg.MaterializeResult(
        value=document,
        metadata=shown,
        check_results=[
            checked("complete", document.report.missing == 0, missing=document.report.missing),
            checked("champion_rescored", len(results[champion]) == len(items), items=len(items)),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Judged),
    kinds={"postgres"},
    check_specs=[dg.AssetCheckSpec("schema", asset="gate_verdict")],
)
def gate_verdict(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    database: DatabaseResource,
    training_examples: Dataset,
    preference_pairs: Pairs,
    serving_bundle: StageArtefact,
    evaluation_report: Evaluated,
) -> dg.MaterializeResult:
    """The gate's decision about exactly the bundle's bytes. A FAIL is a result, not an error: releases re-read it."""
    recipe, store = candidate.read_recipe(), installation.store
    evidence = Evidence(
        artefact_digest=serving_bundle.digest,
        purpose=recipe.purpose,
        evaluation=evaluation_report.report,
        contaminated=training_examples.contaminated,
        preference_grade=preference_pairs.grade,
        judge_report_digest=None,
        win_rate=None,
        preference_effect=evaluation_report.preference_effect,
        cost_nusd=evaluation_report.cost_nusd,
        champion_cost_nusd=evaluation_report.champion_cost_nusd,
        unsafe_files=unsafe_files(sorted(store.manifest(serving_bundle.digest).files)),
        licence=recipe.base.licence,
    )
    verdict = decide(
        evidence,
        policy=load_promotion_policy(Path(installation.config_dir) / "promotion.yaml"),
        profile_name=recipe.evaluation.profile,
        code=code_digest(),
        now=SystemClock().now(),
    )
    stored = Verdict.model_validate_json(store.read_verified(store.put_bytes(verdict.model_dump_json().encode())))
    with database.connected() as connected, connected.begin(candidate.organization) as session:
        row = verdict_row(
            verdict,
            organization_id=candidate.organization,
            scope=candidate.scope,
            dataset_digest=training_examples.card.dataset_digest,
        )
        add_verdict(session, row)
    reasons = [f"{gate.gate} {gate.outcome}: {gate.reason}" for gate in verdict.gates]
    context.log.info(f"verdict {verdict.outcome}: " + "; ".join(reasons))
    return dg.MaterializeResult(
        value=Judged(verdict=verdict, verdict_digest=verdict.verdict_digest),
        metadata={
            "verdict": verdict.outcome.value,
            "reasons": dg.MetadataValue.json(reasons),
            "table": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in reasons)),
            "artefact_digest": verdict.artefact_digest,
            "verdict_digest": verdict.verdict_digest,
            "profile": verdict.profile,
            "preference_grade": str(verdict.preference_grade),
        },
        check_results=[checked("schema", stored == verdict, digest=verdict.verdict_digest)],
    )


def serving_champion(database: DatabaseResource, candidate: CandidateResource, artefact_digest: str) -> str | None:
    """Return the adapter that serves the scope today, with which a candidate is compared; None: the base route.

    A candidate that serves already is compared with the base route once more, not with itself.
    """
    with database.connected() as connected, connected.begin(candidate.organization) as session:
        current = serving_state.current_digest(session, candidate.scope)
    return None if current == artefact_digest else current


def family_figures(document: Evaluated) -> list[dict[str, object]]:
    """Return each family's means of base, SFT and candidate, and the candidate's lift over the base."""
    sft = {one.family: one.candidate.estimate for one in document.sft_report.families}
    return [
        {
            "family": one.family.value,
            "items": one.items,
            "base": one.base.estimate if one.base else 0.0,
            "sft": sft[one.family],
            "dpo": one.candidate.estimate,
            "champion": one.champion.estimate,
            "lift": one.lift.estimate if one.lift else 0.0,
            "lift_low": one.lift.low if one.lift else 0.0,
            "lift_high": one.lift.high if one.lift else 0.0,
        }
        for one in document.report.families
    ]


def generated(
    runner: StageRunner,
    items: tuple[EvaluationItem, ...],
    *,
    base: str,
    adapter: str | None,
    name: str,
) -> tuple[AnswerLine, ...]:
    """Return the training child's answers to items."""
    store, recipe = runner.installation.store, runner.candidate.read_recipe()
    prompts = store.put_bytes(canonical_lines(PromptLine(id=item.item_id, messages=item.messages) for item in items))
    inputs = {"base": base, "prompts": prompts} | ({} if adapter is None else {"adapter": adapter})
    settings = Generation(max_new_tokens=recipe.evaluation.max_new_tokens, batch=recipe.evaluation.batch)
    made = runner.run(Stage.GENERATE, inputs=inputs, name=name, generation=settings)
    return read_lines(store.read_verified(made.digest), AnswerLine)


def _told(effect: PreferenceEffect | None, skipped: str | None) -> str:
    if skipped is not None:
        return f"left out: {skipped}"
    return "not measured" if effect is None else effect.told


def _marked(
    items: tuple[EvaluationItem, ...], lines: tuple[AnswerLine, ...], artefact_digest: str
) -> tuple[ItemResult, ...]:
    wanted = {item.item_id for item in items}
    return marked([_answer(line) for line in lines if line.id in wanted], items, artefact_digest=artefact_digest)


def _answer(line: AnswerLine) -> Answer:
    return Answer(
        item_id=line.id,
        output=line.text,
        stop_reason=line.stop_reason,
        completion_tokens=line.completion_tokens,
        latency_ms=line.latency_ms,
    )


def _evidence(
    candidate: CandidateResource, items: tuple[EvaluationItem, ...], results: tuple[ItemResult, ...]
) -> list[QualityEvidence]:
    family_of = {item.item_id: item.family for item in items}
    found: list[QualityEvidence] = []
    for family in Family:
        scores = [result.score for result in results if family_of[result.item_id] is family]
        if scores:
            found.append(
                QualityEvidence(
                    organization_id=candidate.organization,
                    task=family.value,
                    artefact_digest=results[0].artefact_digest,
                    source=EVIDENCE_SOURCE,
                    items=len(scores),
                    mean_score=sum(scores) / len(scores),
                )
            )
    return found


def own_price(database: BlockingDatabase, candidate: CandidateResource, installation: InstallationResource) -> Price:
    """Return what a token of our own model costs the organization today, its approved prices before the list's.

    So the gateway charges it. Raises `PriceUnknown`.
    """
    prices = load_prices(Path(installation.config_dir) / "prices.yaml")
    with database.begin(candidate.organization) as session:
        own = own_prices_blocking(session)
    return prices.with_own(own).in_force(PRICE_KEY, SystemClock().now())


def _costs(price: Price, lines: tuple[AnswerLine, ...]) -> dict[str, int]:
    return {line.id: cost(Usage(line.prompt_tokens, line.completion_tokens), price) for line in lines}


def _tell_mlflow(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    found: EvaluationReport,
    bundle: StageArtefact,
) -> str | None:
    figures = {"critical_events": float(found.critical_events), "mean_score": found.mean_score}
    for family in found.families:
        name = family.family.value
        figures[f"{name}.candidate"] = family.candidate.estimate
        figures[f"{name}.champion"] = family.champion.estimate
        if family.base is not None and family.lift is not None:
            figures |= {f"{name}.base": family.base.estimate, f"{name}.lift": family.lift.estimate}
    try:
        tracking = installation.tracking()
        run_id = tracking.start_run(
            experiment=experiment(candidate),
            name=f"{candidate.recipe} evaluation",
            key=found.digest,
            tags={"dagster.run_id": context.run_id, "auterity.artefact_digest": bundle.digest},
        )
        tracking.log(run_id, figures=figures)
        tracking.log_text(run_id, found.model_dump_json(indent=1), path="evaluation_report.json")
        tracking.log_folder(run_id, installation.store.checkout(bundle.digest), path="bundle")
        tracking.finish(run_id)
    except Unavailable as error:
        context.log.warning(error.message)
        return None
    return run_id


def _table(document: Evaluated) -> str:
    rows = ["| family | items | base | SFT | SFT + DPO | champion | lift over base |", "|---|--:|--:|--:|--:|--:|--:|"]
    rows += [
        f"| {one['family']} | {one['items']} | {one['base']:.3f} | {one['sft']:.3f} | {one['dpo']:.3f} "
        f"| {one['champion']:.3f} | {one['lift']:+.3f} ({one['lift_low']:+.3f} to {one['lift_high']:+.3f}) |"
        for one in family_figures(document)
    ]
    return "\n".join(rows)
