"""The specialise stage: the model chain as one Dagster run, from rows to a deployment if the gate lets it through."""

import json
from collections.abc import Mapping

from auterity_dagster.demo.dagster_runs import DagsterRuns, RunView
from auterity_dagster.demo.results import FamilyFigures, SpecialisationResult, TrainingRun
from auterity_dagster.demo.stage import DemoContext, StageFailed
from auterity_dagster.jobs.neuroweaver import run_config

RECIPE, QUICK_RECIPE = "smollm2_cpu_qlora", "smollm2_cpu_qlora_quick"
_JOB, _LOCATION = "nw_demo", "models"
_CONVERSATIONS, _QUICK_CONVERSATIONS = 2000, 800
# How the run's time is spread over its steps, on two CPU cores; only the estimate of what is left depends on it.
_SHARES = {
    "base_model": 0.04,
    "source_rows": 0.01,
    "training_examples": 0.01,
    "training_plan": 0.06,
    "sft_adapter": 0.36,
    "preference_candidates": 0.12,
    "preference_pairs": 0.02,
    "dpo_adapter": 0.18,
    "serving_bundle": 0.02,
    "evaluation_report": 0.16,
    "deployment": 0.02,
}


def specialise_model(context: DemoContext) -> None:
    """Launch the chain, or go on following the one an interrupted demo launched, and read what it gave."""
    runs = DagsterRuns(context.announcement.urls.dagster)
    recipe = QUICK_RECIPE if context.state.is_quick else RECIPE
    run_id = runs.latest(_JOB, tags=_tags(context))
    if run_id is None:
        config = run_config(
            context.organization.organization_id,
            recipe=recipe,
            conversations=_QUICK_CONVERSATIONS if context.state.is_quick else _CONVERSATIONS,
        )
        run_id = runs.launch(_JOB, location=_LOCATION, run_config=config, tags=_tags(context))
    view = runs.follow(run_id, seen=lambda view: _tell(context, view))
    if view.status != "SUCCESS":
        failed = [step for step, status in view.steps.items() if status == "FAILURE"]
        raise StageFailed(
            f"Dagster run {run_id} ended with {view.status}"
            + (f" in {', '.join(failed)}" if failed else "")
            + f"; see {context.announcement.urls.dagster}/runs/{run_id}",
            log=context.log("models"),
        )
    context.state.specialisation = read_result(view, recipe=recipe)


def read_result(view: RunView, *, recipe: str) -> SpecialisationResult:
    """Read the chain's figures from what its assets reported to Dagster."""
    verdict = view.metadata["gate_verdict"]
    deployment = view.metadata.get("deployment", {})
    return SpecialisationResult(
        run=TrainingRun(run_id=view.run_id, status=view.status, step_seconds=dict(view.step_seconds)),
        recipe=recipe,
        artefact_digest=verdict["artefact_digest"],
        verdict=verdict["verdict"],
        reasons=tuple(json.loads(verdict["reasons"])),
        families=tuple(
            FamilyFigures.model_validate(row) for row in json.loads(view.metadata["evaluation_report"]["families"])
        ),
        has_dpo="skipped" not in view.metadata["dpo_adapter"],
        preference_effect=view.metadata["evaluation_report"]["preference_effect"],
        model_version=view.metadata.get("registered_model", {}).get("version"),
        deployment_id=deployment.get("deployment_id"),
        mlflow_run_urls=tuple(
            metadata["mlflow_run"] for metadata in view.metadata.values() if metadata.get("mlflow_run")
        ),
    )


def _tags(context: DemoContext) -> Mapping[str, str]:
    return {"auterity/demo": str(context.organization.organization_id)}


def _tell(context: DemoContext, view: RunView) -> None:
    running = [step for step, status in view.steps.items() if status == "IN_PROGRESS"]
    typical_s = context.progress.typical_s
    done = sum(_SHARES.get(step, 0.0) for step, status in view.steps.items() if status == "SUCCESS")
    for step in running:
        # A running step counts by its usual time, and never as finished.
        share = _SHARES.get(step, 0.01)
        done += share * min(view.running_seconds.get(step, 0.0) / (share * typical_s), 0.95)
    context.progress.tell(", ".join(running) or view.status.lower(), done=done)
