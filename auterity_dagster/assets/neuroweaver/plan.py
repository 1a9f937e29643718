"""What a candidate will take and cost, asked before anything is trained."""

import dagster as dg

from auterity_dagster.assets.checks import blocking, checked
from auterity_dagster.assets.neuroweaver.data import GROUP
from auterity_dagster.assets.neuroweaver.documents import Dataset, Plan, StageArtefact, handed
from auterity_dagster.assets.neuroweaver.stage import StageRunner, machine_price
from auterity_dagster.neuroweaver.estimate import CostEstimate, estimate, probes_from
from auterity_dagster.neuroweaver.stage import Stage
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher

CHECKS = ("mask_valid", "truncated_zero", "longest_fits", "within_budget")


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Plan),
    kinds={"huggingface"},
    check_specs=[blocking(name, "training_plan") for name in CHECKS],
)
def training_plan(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
) -> dg.MaterializeResult:
    """Rows checked token by token, a few steps of each stage timed, the price told; over budget nothing is trained."""
    recipe, budget = candidate.read_recipe(), candidate.budget()
    runner = StageRunner(context, candidate, installation, launcher, database)
    artefact = runner.run(Stage.PLAN, inputs={"base": base_model.digest, "train": training_examples.train})
    figures = artefact.metrics
    plan = Plan(
        digest=artefact.digest,
        estimate=CostEstimate(
            stages=tuple(estimate(probe, fixed_s=figures["fixed_s"]) for probe in probes_from(figures)),
            nusd_per_hour=machine_price(installation, recipe),
            judge_cap_nusd=budget.judge_cap_nusd,
            cap_nusd=budget.cap_nusd,
        ),
    )
    stages = {f"{stage.stage}_s": stage.seconds for stage in plan.estimate.stages}
    return dg.MaterializeResult(
        value=plan,
        metadata={**runner.metadata(artefact), **stages, "estimate": plan.estimate.told},
        check_results=[
            # The process refuses a row whose mask breaks a promise and a batch too large for memory: it ended well.
            checked("mask_valid", figures["trained_tokens"] >= figures["rows"], tokens=figures["trained_tokens"]),
            checked("truncated_zero", figures["rows"] > 0, rows=figures["rows"], dropped=figures["dropped_rows"]),
            checked("longest_fits", figures["longest_batch_s"] > 0, tokens=figures["longest_row"]),
            checked("within_budget", plan.estimate.is_within_budget, estimate=plan.estimate.told),
        ],
    )


def estimate_error(plan: Plan, stage: Stage, artefact: StageArtefact) -> dict[str, float]:
    """Return what was estimated and by how much the truth differs (0.1: it took a tenth longer); nothing if reused."""
    expected_s = plan.estimate.seconds_of(stage)
    if expected_s is None or artefact.is_reused:
        return {}
    return {"estimated_s": expected_s, "estimate_error": round(artefact.metrics["elapsed_s"] / expected_s - 1, 3)}
